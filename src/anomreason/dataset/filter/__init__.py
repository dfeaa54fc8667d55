"""`dataset filter`: rules decide which images stay, and find near-duplicates.

from anomreason.dataset.filter.filtering import filter_images
from anomreason.dataset.filter.rules import RULES

with anomreason.dataset.open("data") as data:
    print(filter_images(data, RULES.read("default")).dropped)
"""
