package postgres

// CodeUnavailable is the code of the errors that [Classify] cannot blame on the values: the database does not answer.
const CodeUnavailable = "storage_unavailable"
