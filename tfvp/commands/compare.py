"""Put evaluated runs, or methods of several runs each, side by side.

examples:
  tfvp compare logs/svg_tiny logs/svg_tiny_deterministic --out comparison
  tfvp compare SVG=logs/svg1,logs/svg2,logs/svg3 HTSR=logs/htsr1,logs/htsr2,logs/htsr3
"""

from tfvp import quiet


def add_arguments(parser):
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a run, or NAME=RUN,RUN,...: runs of one method that differ by their seeds",
    )
    parser.add_argument(
        "--protocol",
        help="of the evaluations to compare, or their folder below eval; default: what the configs say",
    )
    parser.add_argument("--out", help="folder to write; default: ./comparison")


def run(options):
    quiet.import_tensorflow()
    from tfvp.evaluation import comparison

    document, paths = comparison.compare(options.runs, options.protocol, options.out or "comparison")
    print(comparison.table(document))
    print("\n" + "\n".join(document["statistics"]) + "\n")
    print("written:\n" + "\n".join(f"  {path}" for path in paths))
