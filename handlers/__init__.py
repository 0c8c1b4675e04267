"""Who calls, one folder each; none imports another but the kit."""
