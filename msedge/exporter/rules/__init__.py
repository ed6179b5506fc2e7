"""One small function per MindSpore primitive, by family. Importing the package registers all of them."""

from msedge.exporter.rules import (  # noqa: F401
    activation,
    conv,
    elementwise,
    linear,
    norm,
    pool,
    reduce,
    resize,
    select,
    shape,
)
