#include "daemon/catalog_schema.h"

#include <array>

namespace hf::daemon {
namespace {

constexpr std::string_view kFirst = R"sql(
CREATE TABLE vms (
  id          TEXT PRIMARY KEY,            -- 32 hex digits
  number      INTEGER NOT NULL UNIQUE,     -- picks the users its processes run as; never reused
  name        TEXT NOT NULL UNIQUE,
  definition  TEXT NOT NULL,               -- JSON, docs/formats: vm_definition.h
  epoch       INTEGER NOT NULL,
  role        TEXT NOT NULL CHECK (role IN ('active', 'standby', 'superseded')),
  wanted      TEXT NOT NULL CHECK (wanted IN ('stopped', 'running')),
  created_us  INTEGER NOT NULL,
  note        TEXT NOT NULL DEFAULT ''     -- why it is superseded, who took over
) STRICT;

CREATE TABLE vm_numbers (last INTEGER NOT NULL) STRICT;
INSERT INTO vm_numbers VALUES (0);

CREATE TABLE peers (
  site          TEXT PRIMARY KEY,
  name          TEXT NOT NULL,
  address       TEXT NOT NULL,             -- host:port
  ca_pem        TEXT NOT NULL,
  fingerprint   TEXT NOT NULL,             -- SHA-256 of the CA certificate, hex
  recipient_pem TEXT NOT NULL,
  signing_key   TEXT NOT NULL,             -- Ed25519, hex
  paired_us     INTEGER NOT NULL
) STRICT;

CREATE TABLE pairing_tokens (
  hash       TEXT PRIMARY KEY,             -- SHA-256 of the secret; the secret itself is not kept
  proof_key  TEXT NOT NULL,                -- derived from the secret, for the proof only
  created_us INTEGER NOT NULL,
  expires_us INTEGER NOT NULL,
  used_us    INTEGER,
  used_by    TEXT
) STRICT;

CREATE TABLE protections (
  vm         TEXT PRIMARY KEY REFERENCES vms (id) ON DELETE CASCADE,
  peer       TEXT NOT NULL REFERENCES peers (site),
  direction  TEXT NOT NULL CHECK (direction IN ('out', 'in')),
  public_key TEXT NOT NULL,                -- of the journal that is received, hex; 'in' only
  minted_at  TEXT NOT NULL,
  created_us INTEGER NOT NULL
) STRICT;

CREATE TABLE jobs (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  kind        TEXT NOT NULL,
  subject     TEXT NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed')),
  detail      TEXT NOT NULL,               -- JSON: steps, result, error
  created_us  INTEGER NOT NULL,
  finished_us INTEGER
) STRICT;

CREATE TABLE audit (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  time_us INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  act     TEXT NOT NULL,
  subject TEXT NOT NULL,
  detail  TEXT NOT NULL
) STRICT;
)sql";

constexpr std::array<std::string_view, 1> kMigrations = {kFirst};

}  // namespace

std::span<const std::string_view> catalog_migrations() { return kMigrations; }

}  // namespace hf::daemon
