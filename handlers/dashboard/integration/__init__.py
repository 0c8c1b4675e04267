"""What to paste where, whether it works, and why calls are refused."""
