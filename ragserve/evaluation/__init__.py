"""How good the answers are: questions from jsonl, runs over them, figures with intervals, runs compared."""
