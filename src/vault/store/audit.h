// The vault's audit log: one JSON object a line, appended, each line chained to the one before.
// Specification: docs/formats/vault.md, "Audit log".
//
//   {"n":1,"time_us":T,"event":"create_key",…,"prev":"HEX","hash":"HEX"}
//
// `hash` is SHA-256 over the line's bytes before `,"hash":`; `prev` is the hash of the line before
// (zeroes at the first). So a changed, removed or inserted line shows; a cut-off end does not,
// unless someone kept a later hash. It never holds a secret.
//
// A write that a power cut tore off is closed with a newline and followed by a
// "log_recovered" line, chained to the last whole one.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/ids.h"
#include "vault/protocol/types.h"
#include "vault/store/directory.h"

namespace hf::vault {

inline constexpr std::string_view kAuditName = "audit.log";

struct AuditEvent {
  std::string_view event;
  std::optional<VmId> vm = {};
  std::optional<SiteId> site = {};
  std::optional<KeyId> key = {};
  std::optional<uint32_t> uid = {};  // of the caller, or released to
  std::optional<int32_t> pid = {};
  uint64_t left_out = 0;  // like events before this one that were not written
  std::string_view outcome = "ok";
};

struct AuditSummary {
  uint64_t lines = 0;
  Digest head;  // hash of the last line
};

// kCorrupt names the first line that breaks the chain.
Result<AuditSummary> verify_audit_log(std::string_view text);

class AuditLog {
 public:
  // Reads the end of the log to go on from it; changes nothing. kCorrupt: the last whole line is
  // not one of ours.
  static Result<AuditLog> open(Directory& directory, Clock& clock);

  // Durable when it returns.
  Status append(const AuditEvent& event);
  // For what must go on though the disk is full: kept in memory (at most 1024) and written by the
  // next append that succeeds. False if it had to be dropped.
  bool append_or_keep(const AuditEvent& event);

 private:
  AuditLog(sys::UniqueFd file, Clock& clock) : file_(std::move(file)), clock_(&clock) {}
  std::string body_of(const AuditEvent& event) const;
  Status write_line(const std::string& body);
  Status write_pending();
  void keep_room(uint64_t size);

  sys::UniqueFd file_;
  Clock* clock_;
  uint64_t lines_ = 0;
  Digest head_;
  bool torn_ = false;
  uint64_t room_end_ = 0;  // so far the disk has space for it
  std::deque<std::string> pending_;
};

}  // namespace hf::vault
