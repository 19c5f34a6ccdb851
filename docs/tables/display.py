"""The display decoder beside two ways to enlarge frames without one."""

from __future__ import annotations

from cells import RESULTS, arm_row, heading, load

COLUMNS = {
    "frechet_pose_features_crops": 2,
    "sharpness_ratio": 2,
    "psnr": 1,
    "faithful_psnr": 1,
    "flicker": 2,
}
SHOWN = {"truth": "true frames", "vae": "frames that the VAE decodes", "generated": "frames that the world makes"}


def display_table() -> list[str]:
    """What pictures of true, decoded and generated frames are worth at four times their size."""
    if not (RESULTS / "display.json").is_file():
        return []
    report = load("display")
    title = (
        f"**Display**, tried and not packaged (`worldenv eval display --world DIR --worlds {len(report['seeds'])} "
        f"--out DIR`, held-out mazes recorded at the display's size, {report['hardware']}; means with 95 % intervals. "
        "Distance of crops of pictures, at full size, from crops of the truth, lower is better; edges over the "
        "truth's; PSNR against the truth, and of shrunk pictures against the frames that they show; change from "
        "picture to picture, of 255, while the world stands still)"
    )
    lines = heading(title, "pictures", COLUMNS)
    for source, what in SHOWN.items():
        for way in ("bicubic", "lanczos_unsharp", "display"):
            lines.append(arm_row(f"`{way}` of {what}", report["arms"][f"{way}_{source}"], COLUMNS))
    return lines
