package pg

// PinSQL is what Connect sends after a login without options.
func PinSQL() string { return pinSQL(sessionParams()) }
