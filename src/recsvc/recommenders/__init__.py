"""The recommenders and the policies made of them: pure functions over a table."""
