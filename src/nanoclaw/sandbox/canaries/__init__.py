"""What a box is tried with, from inside."""
