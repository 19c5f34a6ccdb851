"""Metrics that need trained weights: published ones under their published names, on weights that the user provides.

Nothing is downloaded and nothing is substituted. Put the files below into one folder; a metric whose file or library is
missing, or whose file has another checksum, is skipped, and the report says why.

* ``lpips``: ``alexnet-owt-7be5be79.pth`` from https://download.pytorch.org/models/alexnet-owt-7be5be79.pth, and
  ``alex.pth`` out of the wheel: ``pip download --no-deps lpips==0.1.4``, then
  ``unzip -j lpips-0.1.4-*.whl lpips/weights/v0.1/alex.pth``.
* ``imaging_quality`` (MUSIQ): ``musiq_spaq_ckpt-358bb6af.pth`` from huggingface.co, chaofengc/IQA-PyTorch-Weights;
  ``pip install pyiqa`` (its licence excludes commercial use).
* ``subject_consistency`` (DINO): the folder ``dino-vitb16`` with ``config.json`` and ``model.safetensors`` from
  huggingface.co, facebook/dino-vitb16; ``pip install 'worldenv[worldplay]'``.
* ``background_consistency`` (CLIP): the folder ``clip-vit-base-patch32`` with the same two files from huggingface.co,
  openai/clip-vit-base-patch32; ``pip install 'worldenv[worldplay]'``.
* ``fid``: ``weights-inception-2015-12-05-6726825d.pth`` from github.com/toshas/torch-fidelity, release v0.2.0;
  ``pip install torch-fidelity``.
* ``fvd``: ``i3d_pretrained_400.pt`` from github.com/songweige/TATS, folder tats/fvd; ``pip install cd-fvd``.

A hub folder that has only ``pytorch_model.bin`` is converted once, where it was downloaded:
``CLIPModel.from_pretrained(folder).save_pretrained(folder)`` (``ViTModel`` for DINO) writes ``model.safetensors``.

``motion_smoothness`` (AMT-S) and ``fid_vid`` are always skipped: there is no package that could load their weights
beside this one.

Checksums stand in ``METRICS``. None is published for the files of DINO, CLIP and I3D: there only the architecture is
checked and the user vouches for the rest, so a report should name the checksums found, ``UsableMetric.sha256``.

How to read them: ``lpips`` upsamples frames with a shorter side below 64 pixels 4 times, so compare it only at the same
frame size. ``fid`` needs 2048 frames and ``fvd`` 256 clips of 16 frames in an arm; both grow as sets shrink, so
compare equal numbers and read them next to the value between two halves of the true ones, which suite
``manipulation`` adds as ``fid_halves`` and ``fvd_halves``. The consistencies and ``imaging_quality`` do not look at the
truth and reward a world that stands still.
"""

from .registry import METRICS, LearnedMetric, UsableMetric, WeightFile, available, score

__all__ = ["METRICS", "LearnedMetric", "UsableMetric", "WeightFile", "available", "score"]
