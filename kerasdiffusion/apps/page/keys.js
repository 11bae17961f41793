(() => {
  const press = (name) => {
    const found = document.getElementById(name);
    const button = found && (found.matches("button") ? found : found.querySelector("button"));
    if (button && !button.disabled && button.offsetParent !== null) button.click();
  };
  // On a phone the pictures are far below what is asked.
  document.addEventListener("click", (event) => {
    const paints = event.target.closest && event.target.closest("#kd-paint");
    const now = document.getElementById("kd-now");
    if (paints && now && window.innerWidth <= 640) {
      setTimeout(() => now.scrollIntoView({ behavior: "smooth", block: "start" }), 300);
    }
  });
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
      event.preventDefault();
      // What has just been written reaches the page first.
      setTimeout(() => press("kd-paint"), 60);
    } else if (event.key === "Escape" && document.activeElement === document.body) {
      press("kd-cancel");
    }
  }, true);
})();
