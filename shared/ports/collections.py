"""Every collection that is stored, and what it is searched by."""

from shared.ports.documents import Collection, Index

COLLECTIONS = {
    collection.name: collection
    for collection in (
        Collection(
            "users", (Index(("username_key",), unique=True), Index(("email_key",), unique=True))
        ),
        Collection("sessions", (Index(("user_id",)), Index(("expires_at",)))),
        Collection("api_keys", (Index(("key_hash",), unique=True), Index(("user_id",)))),
        Collection(
            "executions",
            (
                Index(("status", "rank")),
                Index(("user_id", "created_at")),
                Index(("user_id", "status")),
            ),
        ),
        Collection("idempotency_keys", (Index(("expires_at",)),)),
        Collection("pools"),
        Collection("timers", (Index(("due_at",)),)),
        Collection(
            "sagas",
            (
                Index(("execution_id", "saga_name"), unique=True),
                Index(("due_at",), sparse=True),
            ),
        ),
        Collection(
            "events",
            (Index(("execution_id", "seq"), unique=True),),
        ),
        Collection(
            "dead_letters",
            (
                Index(("status", "next_retry_at")),
                Index(("original_topic",)),
                Index(("created_at",)),
            ),
        ),
        Collection("audit_log", (Index(("timestamp",)), Index(("actor_id", "timestamp")))),
        Collection("system_settings"),
        Collection("sandbox_pods"),
    )
}
"""Collection by name. A unique index counts only documents that have all of its fields."""
