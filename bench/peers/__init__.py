"""What users would pick instead, one file each. A peer that is not installed raises ``Unavailable`` when it is made."""
