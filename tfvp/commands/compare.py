"""Put evaluated runs side by side.

example:
  tfvp compare logs/svg_tiny logs/svg_tiny_deterministic --out comparison
"""

from tfvp import quiet


def add_arguments(parser):
    parser.add_argument("runs", nargs="+", metavar="RUN", help="runs, or folders of runs of one model")
    parser.add_argument("--protocol", help="of the evaluations to compare; default: what the runs' configs say")
    parser.add_argument("--out", help="folder to write; default: ./comparison")


def run(options):
    quiet.import_tensorflow()
    from tfvp.evaluation import comparison

    document, paths = comparison.compare(options.runs, options.protocol or "default", options.out or "comparison")
    print(comparison.table(document))
    print("written:\n" + "\n".join(f"  {path}" for path in paths))
