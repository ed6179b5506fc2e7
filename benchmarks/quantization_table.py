"""The results of quantization.py as a page."""

from __future__ import annotations


def markdown(document: dict) -> str:
    lines = [
        "# Quantisation on real photos",
        "",
        f"{document['date']}. Cats against dogs (photos of the Oxford-IIIT Pet set), models trained from scratch on 1,800 "
        f"photos; {document['calibration_images']} of these calibrate. Top-1 and agreement with the float `.ms` are of all "
        "validation photos, each file run in the runtime named (x86-64). `to plan` is the mean cosine of the `.ms` logits to "
        "the plan simulated in MindSpore (pooled over the images in brackets). Written by `benchmarks/quantization.py`.",
    ]
    for name, model in document["models"].items():
        rows = model["rows"]
        first = rows[0]
        lines += [
            "",
            f"## {name}, {model['image_size']} px, {first['params'] / 1e6:.2f} M parameters",
            "",
            f"Float: top-1 {100 * first['top1']:.2f} % of {first['images']} photos.",
            "",
            "| mode | by | runtime | top-1 % | against float | agreement % | pooled cosine | bytes/parameter | to plan |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(row) for row in rows]
    return "\n".join(lines) + "\n"


def _line(row: dict) -> str:
    plan = (
        f"{row['mindspore_cosine_mean']:.4f} ({row['mindspore_cosine_pooled']:.5f})" if "mindspore_cosine_mean" in row else ""
    )
    cells = [
        row["mode"],
        row["by"],
        row["runtime"],
        f"{100 * row['top1']:.2f}",
        f"{100 * (row['top1'] - row['top1_float']):+.2f}",
        f"{100 * row['agreement']:.2f}",
        f"{row['cosine_pooled']:.4f}",
        f"{row['bytes_per_param']:.3f}",
        plan,
    ]
    return f"| {' | '.join(cells)} |"
