package catalog

// Names of Crossfade's own objects on the source, which belong to no application.
const (
	OwnSchema  = "crossfade"
	OwnTrigger = "zz_crossfade_fence"
)
