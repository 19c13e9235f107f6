#include "keeper/service/boot_files.h"

#include <algorithm>

#include "attestation/baseline/disk_knowledge.h"
#include "keeper/thread_waiter.h"
#include "secure_boot/keys/variable_store.h"
#include "secure_boot/preflight/boot_option.h"
#include "secure_boot/preflight/preflight.h"

namespace hf::keeper {
namespace {

// A piece: as much as a guest's own request may be, so that none waits longer for its turn.
constexpr size_t kPieceBytes = volume::kRequestDataMax;
// Of the report, whose length the guest's disk decides; what the control socket's other end takes.
constexpr size_t kReportBytesMax = size_t{1} << 20;

}  // namespace

// From the reading thread.
class BootFiles::DiskSource final : public secure_boot::BlockSource {
 public:
  explicit DiskSource(BootFiles& owner) : owner_(owner) {}
  uint64_t size() const override { return owner_.parts_.size_bytes; }
  uint64_t bytes_read() const { return bytes_read_; }

  Status read(uint64_t offset, MutableByteSpan out) override {
    if (offset > size() || out.size() > size() - offset) {
      return Error{.code = ErrorCode::kCorrupt, .cause = "a read beyond the end of the disk"};
    }
    bytes_read_ += out.size();
    while (!out.empty()) {
      if (owner_.stopping_) {
        return Error{.code = ErrorCode::kUnavailable, .cause = "the keeper is stopping"};
      }
      const MutableByteSpan piece = out.first(std::min(out.size(), kPieceBytes));
      ThreadWaiter waiter;
      owner_.parts_.reactor.post([this, offset, piece, &waiter] {
        owner_.parts_.front.journal().read(owner_.parts_.disk, offset, piece, waiter);
      });
      TRY(waiter.wait());
      offset += piece.size();
      out = out.subspan(piece.size());
    }
    return {};
  }

 private:
  BootFiles& owner_;
  uint64_t bytes_read_ = 0;
};

void BootFiles::stop() {
  stopping_ = true;
  worker_.stop();
}

Result<sys::JsonObject> BootFiles::answer(const keeper_protocol::BootFiles& asked) {
  if (!asked.ticket) return ask();
  const uint64_t ticket = *asked.ticket;
  std::lock_guard lock(mutex_);
  if (ticket == 0 || ticket > asked_) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = "no reading of the boot files has the ticket " + std::to_string(ticket)};
  }
  if (ticket > done_) return sys::JsonObject{{"ticket", ticket}, {"reading", true}};
  sys::JsonObject answer = newest_;
  answer["ticket"] = ticket;
  answer["reading"] = false;
  return answer;
}

// Who asks while one waits to begin gets that one.
Result<sys::JsonObject> BootFiles::ask() {
  std::lock_guard lock(mutex_);
  if (asked_ == begun_) {
    if (!worker_.post([this] { read_now(); })) {
      return Error{.code = ErrorCode::kUnavailable, .cause = "the keeper is stopping"};
    }
    ++asked_;
  }
  return sys::JsonObject{{"ticket", asked_}};
}

void BootFiles::read_now() {
  uint64_t answers = 0;
  {
    std::lock_guard lock(mutex_);
    answers = begun_ = asked_;
  }
  Result<sys::JsonObject> found = read();
  std::lock_guard lock(mutex_);
  done_ = answers;
  newest_ = found.ok() ? *std::move(found)
                       : sys::JsonObject{{"error", sys::error_to_json(found.error())}};
}

Result<sys::JsonObject> BootFiles::read() {
  const Bytes image = on_reactor(parts_.reactor, [this] { return parts_.flash.image(); });
  const secure_boot::VariableStore store = TRY(secure_boot::VariableStore::parse(image));
  secure_boot::PreflightInput input =
      TRY(secure_boot::preflight_input_of(store, "the VM's own keys"));
  input.bytes_max = kBootFilesBytesMax;
  input.hashed_bytes_max = kBootFilesBytesMax * secure_boot::kHashedPerByteRead;
  input.stop = [this] { return stopping_.load(); };
  DiskSource disk(*this);
  const secure_boot::PreflightReport report = TRY(secure_boot::preflight(disk, input));
  if (stopping_) return Error{.code = ErrorCode::kUnavailable, .cause = "the keeper is stopping"};
  sys::JsonObject json = secure_boot::to_json(report);
  json.erase("explanations");  // they are the knowledge
  std::string text = secure_boot::in_words(report);
  if (sys::to_text(json).size() > kReportBytesMax || text.size() > kReportBytesMax) {
    json["paths"] = sys::JsonArray();
    text = report.summary + "\nthe disk names more boot files than are listed\n";
  }
  return sys::JsonObject{{"knowledge", attestation::to_text(attestation::disk_knowledge_of(
                                           report, attestation::HashAlg::kSha256))},
                         {"report", std::move(json)},
                         {"text", std::move(text)},
                         {"bytes", disk.bytes_read()}};
}

}  // namespace hf::keeper
