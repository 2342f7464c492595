"""What people answered to the corrections of a run, read from their own tools."""
