package erase

// A table holds rows of users.
type table struct {
	name  string
	key   string // what names a row, of one partition at least
	where string // which rows are those of the user $1
}

const (
	userEndpoints = "(SELECT id FROM endpoints WHERE user_id = $1)"
	userCards     = "(SELECT id FROM cards WHERE user_id = $1)"
)

// sources are what new events of the user would come from. They go first.
var sources = []table{
	{"saved_contacts", "ctid", "user_id = $1 OR card_id = ANY (ARRAY " + userCards + ")"},
	{"card_links", "ctid", "card_id = ANY (ARRAY " + userCards + ")"},
	{"links", "id", "user_id = $1"},
	{"cards", "id", "user_id = $1"},
	{"users", "id", "id = $1"},
	{"outbox", "id", "user_id = $1"},
	{"endpoint_secrets", "id", "endpoint_id = ANY (ARRAY " + userEndpoints + ")"},
}

// records are what is kept of events and endpoints. Attempts and deliveries go before
// them, together.
var records = []table{
	{"events", "id", "user_id = $1"},
	{"dead_events", "id", "starts_with(subject, 'events.' || $1::uuid::text || '.')"},
	{"delivery_counts", "ctid", "endpoint_id = ANY (ARRAY " + userEndpoints + ")"},
	{"recoveries", "id", "endpoint_id = ANY (ARRAY " + userEndpoints + ")"},
	{"replays", "id", "user_id = $1"},
	{"card_views", "event_id", "owner_id = $1"},
	{"idempotency_keys", "ctid", "user_id = $1"},
	{"audit_log", "id", "user_id = $1"},
	{"endpoint_states", "endpoint_id", "endpoint_id = ANY (ARRAY " + userEndpoints + ")"},
}

// endpoints goes last: by it the others are found, also when an erasure was
// interrupted and is run again.
var endpoints = table{"endpoints", "id", "user_id = $1"}

// withoutUsers are the tables that hold nothing of users, and why.
var withoutUsers = map[string]string{
	"api_keys":         "keys are of services and operators",
	"cleared_days":     "days",
	"event_names":      "hashes of publishers' names for events, for 24 h",
	"goose_db_version": "migrations",
}

func (t table) count() string { return "SELECT count(*) FROM " + t.name + " WHERE " + t.where }

// delete deletes batch rows at most.
func (t table) delete() string {
	return "DELETE FROM " + t.name + " WHERE " + t.key + " = ANY (ARRAY (SELECT " + t.key + " FROM " + t.name + " WHERE " + t.where + " LIMIT $2))"
}

const (
	userDeliveries = "endpoint_id = ANY (ARRAY " + userEndpoints + ")"

	countDeliveries = "SELECT count(*), coalesce(sum(attempts), 0) FROM deliveries WHERE " + userDeliveries
	// deleteDeliveries deletes deliveries with their attempts.
	deleteDeliveries = `
		WITH d AS (
			SELECT id FROM deliveries WHERE ` + userDeliveries + ` LIMIT $2
		), a AS (
			DELETE FROM attempts WHERE delivery_id = ANY (ARRAY (SELECT id FROM d)) RETURNING 1
		), gone AS (
			DELETE FROM deliveries WHERE id = ANY (ARRAY (SELECT id FROM d)) RETURNING 1
		)
		SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM a)`

	// stopEndpoints has nothing more made for the user's endpoints.
	stopEndpoints = `UPDATE endpoints SET deleted_at = clock_timestamp(), updated_at = clock_timestamp() WHERE user_id = $1 AND deleted_at IS NULL`

	countViewer = `SELECT count(*) FROM card_views WHERE viewer_id = $1 AND owner_id <> $1`
	// forgetViewer takes the user from views of others' cards, which are the others'.
	forgetViewer = `
		UPDATE card_views SET viewer_id = NULL, viewer_hash = NULL, user_agent = NULL
		WHERE event_id = ANY (ARRAY (SELECT event_id FROM card_views WHERE viewer_id = $1 AND owner_id <> $1 LIMIT $2))`
)
