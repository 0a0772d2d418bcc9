"""Training that configures itself: what the data and the machine are like, and the rules that follow from it."""
