"""The prompts of an audit: read from anywhere, cleaned, tagged, and chosen to be diverse.

from anomreason.audit.prompts.packs import read_pack
read_pack("photo-246")[0].text
"""
