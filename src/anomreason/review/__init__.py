"""Review: people verify candidates, each with one key.

rounds.py begins a round: which candidates, in which order. queue.py hands them out and takes the verdicts. estimate.py
says how good the candidates are by now.
"""
