"""Everything that reads what somebody wrote about images."""
