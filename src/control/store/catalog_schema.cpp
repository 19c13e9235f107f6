#include "control/store/catalog_schema.h"

#include <array>

namespace hf::control {
namespace {

constexpr std::string_view kFirst = R"sql(
CREATE TABLE vms (
  id          TEXT PRIMARY KEY,            -- 32 hex digits
  number      INTEGER NOT NULL UNIQUE,     -- picks the users its processes run as
  name        TEXT NOT NULL UNIQUE,
  definition  TEXT NOT NULL,               -- JSON, vm/definition.h
  epoch       INTEGER NOT NULL,
  role        TEXT NOT NULL CHECK (role IN ('creating', 'active', 'standby', 'superseded')),
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

constexpr std::string_view kAttestation = R"sql(
CREATE TABLE attestation (
  vm           TEXT PRIMARY KEY REFERENCES vms (id) ON DELETE CASCADE,
  policy       TEXT NOT NULL DEFAULT '',   -- JSON or empty, as all here: attestation/policy/policy.h
  baseline     TEXT NOT NULL DEFAULT '',   -- attestation/baseline/baseline.h
  identity     TEXT NOT NULL DEFAULT '',   -- attestation_identity.h
  explanations TEXT NOT NULL DEFAULT ''    -- digest → words, of the image at creation
) STRICT;

CREATE TABLE verdicts (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  vm      TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
  time_us INTEGER NOT NULL,
  verdict TEXT NOT NULL CHECK (verdict IN ('Healthy', 'Unhealthy', 'Unknown')),
  record  TEXT NOT NULL                    -- JSON: attestation_check.h
) STRICT;
CREATE INDEX verdicts_by_vm ON verdicts (vm, id);

CREATE TABLE events (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  time_us  INTEGER NOT NULL,
  severity TEXT NOT NULL CHECK (severity IN ('info', 'warning', 'alert')),
  kind     TEXT NOT NULL,
  subject  TEXT NOT NULL,
  text     TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_subject ON events (subject, id);
)sql";

constexpr std::string_view kRollover = R"sql(
ALTER TABLE attestation ADD COLUMN rollover TEXT NOT NULL DEFAULT '';  -- rollover.h
)sql";

constexpr std::string_view kAdoptPending = R"sql(
ALTER TABLE vms ADD COLUMN adopt_pending INTEGER NOT NULL DEFAULT 0;  -- catalog.h: VmRow
)sql";

constexpr std::string_view kTakenFrom = R"sql(
ALTER TABLE vms ADD COLUMN taken_from TEXT NOT NULL DEFAULT '';  -- catalog.h: VmRow; hex or empty
)sql";

constexpr std::string_view kProtectionState = R"sql(
ALTER TABLE protections ADD COLUMN state TEXT NOT NULL DEFAULT 'stands'  -- catalog.h
  CHECK (state IN ('offered', 'stands', 'withdrawing'));
)sql";

constexpr std::string_view kFreeNumbers = R"sql(
CREATE TABLE free_vm_numbers (
  turn   INTEGER PRIMARY KEY AUTOINCREMENT,  -- the longest free is used first
  number INTEGER NOT NULL UNIQUE
) STRICT;
)sql";

// Who, and from where; jobs that were cancelled or cut off. A CHECK cannot be altered, so the jobs
// move.
constexpr std::string_view kByWhom = R"sql(
ALTER TABLE events ADD COLUMN actor TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN origin TEXT NOT NULL DEFAULT '';
CREATE TABLE jobs_by_whom (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  kind        TEXT NOT NULL,
  subject     TEXT NOT NULL,
  state       TEXT NOT NULL
    CHECK (state IN ('running', 'done', 'failed', 'cancelled', 'interrupted')),
  detail      TEXT NOT NULL,               -- JSON: steps, result, error
  created_us  INTEGER NOT NULL,
  finished_us INTEGER,
  actor       TEXT NOT NULL DEFAULT '',
  origin      TEXT NOT NULL DEFAULT ''
) STRICT;
INSERT INTO jobs_by_whom (id, kind, subject, state, detail, created_us, finished_us)
  SELECT id, kind, subject, state, detail, created_us, finished_us FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs_by_whom RENAME TO jobs;
CREATE INDEX jobs_running ON jobs (id) WHERE state = 'running';
)sql";

// Names were the peers' own choice: of those that are alike, or could be taken for an id, one keeps
// the name and the others are called by their id.
constexpr std::string_view kPeerNames = R"sql(
UPDATE peers SET name = site
  WHERE (length(name) = 32 AND name NOT GLOB '*[^0-9a-fA-F]*')
     OR EXISTS (SELECT 1 FROM peers AS other
                WHERE other.name = peers.name AND other.rowid < peers.rowid);
CREATE UNIQUE INDEX peers_by_name ON peers (name);
)sql";

// Who may hear that a VM is gone: nobody but who had to do with it, and more than being offered it.
// For 90 days.
constexpr std::string_view kFormerProtections = R"sql(
CREATE TABLE former_protections (
  vm      TEXT NOT NULL,                   -- may be gone, as the peer may
  peer    TEXT NOT NULL,
  ended_s INTEGER NOT NULL,
  PRIMARY KEY (vm, peer)
) STRICT, WITHOUT ROWID;
CREATE INDEX former_protections_by_end ON former_protections (ended_s);
CREATE TRIGGER protection_ended AFTER DELETE ON protections WHEN OLD.state <> 'offered' BEGIN
  INSERT OR REPLACE INTO former_protections VALUES (OLD.vm, OLD.peer, unixepoch());
  DELETE FROM former_protections WHERE ended_s < unixepoch() - 7776000;
END;
CREATE TRIGGER protection_moved AFTER UPDATE OF peer ON protections WHEN OLD.peer <> NEW.peer BEGIN
  INSERT OR REPLACE INTO former_protections VALUES (OLD.vm, OLD.peer, unixepoch());
END;
)sql";

// What a paired site may place here. Those that are paired may go on as before.
constexpr std::string_view kConsent = R"sql(
ALTER TABLE peers ADD COLUMN accept TEXT NOT NULL DEFAULT 'yes' CHECK (accept IN ('yes', 'ask', 'no'));
ALTER TABLE peers ADD COLUMN quota_bytes INTEGER NOT NULL DEFAULT 0;  -- 0: no bound
CREATE TABLE offers (
  vm         TEXT NOT NULL,                -- not here yet
  peer       TEXT NOT NULL REFERENCES peers (site) ON DELETE CASCADE,
  name       TEXT NOT NULL,
  bytes      INTEGER NOT NULL,             -- of its disks
  accepted   INTEGER NOT NULL,
  offered_us INTEGER NOT NULL,
  PRIMARY KEY (vm, peer)
) STRICT, WITHOUT ROWID;
)sql";

constexpr std::array<std::string_view, 11> kMigrations = {
    kFirst,       kAttestation, kRollover,  kAdoptPending,      kTakenFrom, kProtectionState,
    kFreeNumbers, kByWhom,      kPeerNames, kFormerProtections, kConsent};

}  // namespace

std::span<const std::string_view> catalog_migrations() { return kMigrations; }

}  // namespace hf::control
