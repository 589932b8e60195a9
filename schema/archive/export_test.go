package archive

const (
	Magic    = archiveMagic
	MinMinor = archiveMinMinor
	MaxMinor = archiveMaxMinor
)

var (
	EncodeArchive = encodeArchive
	SampleEntries = sampleEntries
)
