"""``surd view``: a page on this machine over every record of a build, finished or in the making."""
