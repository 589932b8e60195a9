package restore

const (
	AfterLockTimeout = afterLockTimeout
	AfterShortTries  = afterShortTries
	BatchEntries     = batchEntries
)

var (
	LockSQL      = lockSQL
	LongerWait   = longerWait
	MostLockWait = mostLockWait
	RestAfter    = restAfter
	Try          = try
)
