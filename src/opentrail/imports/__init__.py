"""Reading files of CloudTrail records that other systems wrote."""
