"""Questions about a build that write nothing."""
