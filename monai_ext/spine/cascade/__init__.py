"""`spinal_cord_cascade`: from mixed series of spine MRI to lesion masks, stage by stage."""
