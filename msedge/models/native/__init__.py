"""Training operators written in C, for the places where MindSpore's own are slow on a CPU.

Only training uses them: evaluation and export see MindSpore's operators alone.
"""
