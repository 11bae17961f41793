"""The page of each task: what makes a plan of a model and a request."""

from __future__ import annotations

from kerasdiffusion.tasks import (
    depth_to_image,
    editing,
    image_to_image,
    inpainting,
    outpainting,
    text_to_image,
    upscaling,
    walks,
)

PAGES = {
    "text_to_image": text_to_image.plan,
    "generate_image": text_to_image.plan_encoded,
    "image_to_image": image_to_image.plan,
    "inpaint": inpainting.plan,
    "outpaint": outpainting.plan,
    "depth_to_image": depth_to_image.plan,
    "edit": editing.plan,
    "upscale": upscaling.plan,
    "interpolate": walks.plan,
    "circular_walk": walks.plan_circle,
}
