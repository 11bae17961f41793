"""The caches of one picture, plainly: floats, lists and `if`.

Written from what stable-diffusion.cpp's `docs/caching.md` and `src/runtime/` say, for a
sampler of one network call a step.
"""

import numpy as np


def mean(x):
    return float(np.mean(np.abs(x), dtype="float64"))


class UCache:
    """Judges by the first condition that it is given; all of them follow."""

    def __init__(
        self,
        steps,
        threshold=1.0,
        start=0.15,
        end=0.95,
        decay=1.0,
        relative=1,
        reset=1,
        easy=False,
        noise=False,
        interval=None,
    ):
        self.steps, self.threshold, self.easy = steps, threshold, easy
        self.begin, self.end = int(start * steps), min(int(end * steps), steps - 1)
        self.noise, self.interval = noise, interval
        self.decay, self.relative, self.reset = decay, relative, reset
        self.seen = self.outputs = self.rate = self.drift = None
        self.error = self.size = 0.0
        self.computed = self.streak = self.skipped = 0

    def __call__(self, step, seen, network):
        """Predictions of all conditions for what they see."""
        if not self.begin <= step < self.end:
            return network()
        change = None if self.seen is None else mean(seen - self.seen)
        due = self.interval and (step - self.begin) % self.interval == 0
        if due and self.reset:
            self.error = 0.0
        if not due and change and self.rate and self.size and self.is_little(change):
            self.streak += 1
            self.skipped += 1
            if self.noise:
                return self.outputs
            return [seen + (each - self.seen) for each in self.outputs]
        outputs = network()
        if self.outputs is not None:
            moved = mean(outputs[0] - self.outputs[0])
            if moved:
                self.rate = moved / change if change else self.rate
                last = self.drift
                self.drift = moved if last is None else 0.8 * last + 0.2 * moved
        self.seen, self.outputs = seen, outputs
        self.size, self.streak = mean(outputs[0]), 0
        self.computed += 1
        return outputs

    def is_little(self, change):
        estimate = self.rate * change
        if self.easy:
            self.error += estimate / self.size
            if self.error < self.threshold:
                return True
            self.error = 0.0
            return False
        limit = self.threshold
        if self.computed / self.steps < 0.2:
            limit *= 0.5
        elif self.computed / self.steps > 0.8:
            limit *= 1.5
        if self.relative:
            drift = self.size if self.drift is None else 1.6 * self.drift
            estimate /= np.sqrt(self.size * drift)
        else:
            limit *= self.size
        self.error = self.error * self.decay + estimate * (1 + 0.5 * self.streak)
        if self.error < limit:
            return True
        if self.reset:
            self.error = 0.0
        return False


class Spectrum:
    """Foretells denoised latents."""

    def __init__(
        self, steps, w=0.4, m=3, lam=1.0, window=2, flex=0.5, warmup=4, stop=0.9
    ):
        self.w, self.m, self.lam, self.flex, self.warmup = w, m, lam, flex, warmup
        self.window, self.stop = window, int(stop * steps)
        self.taus, self.past = [], []
        self.step = self.cached = self.skipped = 0

    def __call__(self, network):
        """The denoised latents of the next step."""
        foretold = self.is_foretold()
        found = self.foretell() if foretold else network()
        if foretold:
            self.cached += 1
            self.skipped += 1
        else:
            self.taus = [*self.taus, self.tau()][-max(self.m + 1, 6) :]
            self.past = [*self.past, found][-max(self.m + 1, 6) :]
            self.window += self.flex * (self.step >= self.warmup)
            self.cached = 0
        self.step += 1
        return found

    def tau(self):
        return self.step / 50 * 2 - 1

    def is_foretold(self):
        if self.step < self.warmup or len(self.past) < 2:
            return False
        if self.stop and self.step >= self.stop:
            return False
        return (self.cached + 1) % int(self.window) != 0

    def polynomials(self, tau):
        found = [1.0, tau]
        while len(found) <= self.m:
            found.append(2 * tau * found[-1] - found[-2])
        return found[: self.m + 1]

    def foretell(self):
        design = np.array([self.polynomials(tau) for tau in self.taus])
        values = np.array([each.ravel() for each in self.past], "float64")
        # Ridge regression as least squares with rows of the root of its weight.
        rows = np.vstack([design, np.sqrt(self.lam) * np.eye(self.m + 1)])
        values = np.vstack([values, np.zeros((self.m + 1, values.shape[1]))])
        fit = np.linalg.lstsq(rows, values, rcond=None)[0]
        fitted = np.array(self.polynomials(self.tau())) @ fit
        last, before = self.past[-1], self.past[-2]
        line = last + 0.5 * (last - before)
        return (1 - self.w) * line + self.w * fitted.reshape(last.shape)
