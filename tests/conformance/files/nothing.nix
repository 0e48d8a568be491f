{ text = "nothing to build"; }
