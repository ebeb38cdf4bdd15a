"""What was trained, for people to look at: lists of runs and pages about them, made of plain records, without torch."""
