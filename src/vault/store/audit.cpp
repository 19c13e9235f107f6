#include "vault/store/audit.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "crypto/crypto.h"

namespace hf::vault {
namespace {

constexpr uint64_t kRoom = uint64_t{1} << 20;  // some 3,000 lines
constexpr uint64_t kRoomLow = kRoom / 2;
constexpr size_t kLineMax = 1024;
constexpr size_t kPendingMax = 1024;
constexpr std::string_view kHashKey = ",\"hash\":\"";
constexpr std::string_view kPrevKey = ",\"prev\":\"";
constexpr std::string_view kRecovered = "\"event\":\"log_recovered\"";
constexpr size_t kHexDigest = 64;

struct Line {
  uint64_t number = 0;
  Digest previous;
  Digest hash;
  bool recovered = false;
};

// Strict: what write_line() writes, and its hash right.
std::optional<Line> parse_line(std::string_view text) {
  constexpr std::string_view kStart = "{\"n\":";
  constexpr std::string_view kEnd = "\"}";
  if (!text.starts_with(kStart) || !text.ends_with(kEnd)) return std::nullopt;
  Line line;
  const char* digits = text.data() + kStart.size();
  const auto number = std::from_chars(digits, text.data() + text.size(), line.number);
  const size_t hash_at = text.rfind(kHashKey);
  const size_t previous_at = text.rfind(kPrevKey);
  if (number.ec != std::errc() || hash_at == std::string_view::npos ||
      previous_at == std::string_view::npos ||
      text.size() != hash_at + kHashKey.size() + kHexDigest + kEnd.size() ||
      hash_at != previous_at + kPrevKey.size() + kHexDigest + 1) {
    return std::nullopt;
  }
  const auto previous = Digest::parse_hex(text.substr(previous_at + kPrevKey.size(), kHexDigest));
  const auto hash = Digest::parse_hex(text.substr(hash_at + kHashKey.size(), kHexDigest));
  if (!previous.ok() || !hash.ok()) return std::nullopt;
  line.previous = *previous;
  line.hash = *hash;
  line.recovered = text.find(kRecovered) != std::string_view::npos;
  if (crypto::sha256(as_bytes(text.substr(0, hash_at))) != line.hash) return std::nullopt;
  return line;
}

Error broken(const std::string& where) {
  return Error{.code = ErrorCode::kCorrupt,
               .cause = "the vault's audit log is altered at " + where,
               .effect = "the vault did not start; nothing was changed",
               .mend =
                   "keep the log for inquiry: move audit.log out of the vault's directory; the "
                   "vault then begins a new one"};
}

}  // namespace

Result<AuditSummary> verify_audit_log(std::string_view text) {
  AuditSummary summary;
  uint64_t physical = 0;
  bool torn_before = false;
  while (!text.empty()) {
    ++physical;
    const size_t end = text.find('\n');
    const std::optional<Line> line = parse_line(text.substr(0, end));
    if (!line.has_value()) {
      // A torn write is one line that the next, if there is one, owns up to.
      if (torn_before) return broken(fmt::format("line {}", physical));
      torn_before = true;
    } else {
      const bool chained = line->number == summary.lines + 1 && line->previous == summary.head;
      if (!chained || (torn_before && !line->recovered))
        return broken(fmt::format("line {}", physical));
      torn_before = false;
      summary = {.lines = line->number, .head = line->hash};
    }
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
    if (torn_before && text.empty()) return broken(fmt::format("line {}", physical));
  }
  return summary;
}

Result<AuditLog> AuditLog::open(Directory& directory, Clock& clock) {
  AuditLog log(TRY(directory.open_append(std::string(kAuditName))), clock);
  struct stat status{};
  if (::fstat(log.file_.get(), &status) != 0) return errno_error(errno, "stat the audit log");
  const auto size = static_cast<uint64_t>(status.st_size);
  log.keep_room(size);
  if (size == 0) return log;
  // Enough for a whole line and a torn one after it.
  const uint64_t window = std::min<uint64_t>(size, 4 * kLineMax);
  Bytes tail(window);
  TRY_CONTEXT(sys::pread_exact(log.file_.get(), size - window, tail), "read the audit log");
  std::string_view text = as_text(tail);
  const size_t last_newline = text.rfind('\n');
  log.torn_ = !text.ends_with('\n');
  if (last_newline == std::string_view::npos) {
    if (size > kLineMax) return broken("line 1");
    return log;  // the very first line was torn
  }
  std::string_view whole = text.substr(0, last_newline);
  const size_t before = whole.rfind('\n');
  if (before != std::string_view::npos) whole.remove_prefix(before + 1);
  const std::optional<Line> last = parse_line(whole);
  if (!last.has_value()) return broken("its last line");
  log.lines_ = last->number;
  log.head_ = last->hash;
  return log;
}

std::string AuditLog::body_of(const AuditEvent& event) const {
  std::string body =
      fmt::format("\"time_us\":{},\"event\":\"{}\"", clock_->wall_time().value, event.event);
  if (event.vm) body += fmt::format(",\"vm\":\"{}\"", event.vm->hex());
  if (event.site) body += fmt::format(",\"site\":\"{}\"", event.site->hex());
  if (event.key) body += fmt::format(",\"key\":\"{}\"", event.key->hex());
  if (event.uid) body += fmt::format(",\"uid\":{}", *event.uid);
  if (event.pid) body += fmt::format(",\"pid\":{}", *event.pid);
  if (event.left_out > 0) body += fmt::format(",\"left_out\":{}", event.left_out);
  body += fmt::format(",\"outcome\":\"{}\"", event.outcome);
  return body;
}

// Space behind its end: what is deleted to make space is recorded on a full disk too. Where there
// is none to be had, or the file system cannot keep it, it is asked for again with the next line.
void AuditLog::keep_room(uint64_t size) {
  if (size + kRoomLow <= room_end_) return;
  if (::fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(size), kRoom) == 0)
    room_end_ = size + kRoom;
}

Status AuditLog::write_line(const std::string& body) {
  std::string line = fmt::format("{{\"n\":{},{}{}{}\"", lines_ + 1, body, kPrevKey, head_.hex());
  const Digest hash = crypto::sha256(as_bytes(line));
  line += fmt::format("{}{}\"}}\n", kHashKey, hash.hex());
  HF_ASSERT(line.size() <= kLineMax);
  const off_t before = ::lseek(file_.get(), 0, SEEK_END);
  if (before >= 0) keep_room(static_cast<uint64_t>(before));
  Status written = sys::write_all(file_.get(), as_bytes(line));
  if (written.ok() && ::fdatasync(file_.get()) != 0) {
    written = errno_error(errno, "fdatasync the audit log");
  }
  if (!written.ok()) {
    // Take back what a full disk cut short; if even that fails, the next line says so.
    torn_ = before < 0 || ::ftruncate(file_.get(), before) != 0;
    room_end_ = 0;  // cut off with it
    return std::move(written)
        .error()
        .context("audit log")
        .with_effect("what was asked was not done, because it could not be recorded")
        .with_mend("free space on the file system of the vault's directory and try again");
  }
  ++lines_;
  head_ = hash;
  return {};
}

Status AuditLog::write_pending() {
  if (torn_) {
    TRY(sys::write_all(file_.get(), as_bytes("\n")));
    torn_ = false;
    TRY(write_line(body_of({.event = "log_recovered"})));
  }
  while (!pending_.empty()) {
    TRY(write_line(pending_.front()));
    pending_.pop_front();
  }
  return {};
}

Status AuditLog::append(const AuditEvent& event) {
  TRY(write_pending());
  return write_line(body_of(event));
}

bool AuditLog::append_or_keep(const AuditEvent& event) {
  if (append(event).ok()) return true;
  if (pending_.size() >= kPendingMax) return false;
  pending_.push_back(body_of(event));
  return true;
}

}  // namespace hf::vault
