package changes

var KeyOf = keyOf
