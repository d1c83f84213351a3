"""Jobs with few events that each need attention, on Faust."""
