package machine

// Obstacle is one reason why a request is not begun: a stable code, what is wrong, and what to do
// about it.
type Obstacle struct{ Code, Detail, Remedy string }
