"""The subcommands of `tfvp`, one file each.

A file has a docstring, whose first paragraph is the command's help and whose rest is shown below its options,
`add_arguments(parser)`, and `run(options)`. Only `run` imports what the command works with, so that help and wrong
arguments need no TensorFlow.
"""
