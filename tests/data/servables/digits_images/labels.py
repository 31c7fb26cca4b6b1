"""What the classes of the digits model are called."""

LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
