// A guest's commands as the engine shows them, with any answer: the record stays bounded, its pages
// add up, and what it holds names PCRs and banks that there are.
#include "base/assert.h"
#include "base/fuzz_input.h"
#include "vtpm/extend_recorder.h"

namespace {

using namespace hf;        // NOLINT
using namespace hf::vtpm;  // NOLINT

constexpr size_t kChangesMax = 8;

class NoClock final : public Clock {
 public:
  Micros wall_time() override { return Micros(1); }
  Micros monotonic() override { return Micros(1); }
};
class NoRng final : public Rng {
 public:
  void fill(MutableByteSpan out) override { std::fill(out.begin(), out.end(), std::byte{1}); }
};

void check(const ExtendRecorder& recorder) {
  const ExtendRecorder::View view = recorder.read(0, kChangesMax + 1);
  HF_ASSERT(view.boot.total <= kChangesMax && view.changes.size() == view.boot.total);
  HF_ASSERT(!view.boot.exit_boot_services || *view.boot.exit_boot_services < view.boot.total);
  for (const PcrChangeRecord& change : view.changes) {
    HF_ASSERT(change.pcr < kPcrsMax);
    HF_ASSERT((change.kind == PcrChangeKind::kReset) == change.digests.empty());
    for (const BankDigest& digest : change.digests) {
      HF_ASSERT(digest.digest.size() >= 20 && digest.digest.size() <= 64);
    }
  }
}

}  // namespace

// Steps: u8 what, u8 length of the command, u8 length of the answer, both.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  NoClock clock;
  NoRng rng;
  ExtendRecorder recorder(clock, rng, kChangesMax);
  ByteSpan rest = hf::fuzz_input(data, size);
  recorder.on_power(PowerChange::kCold);
  while (rest.size() >= 3) {
    const auto what = std::to_integer<unsigned>(rest[0]);
    const size_t command_size = std::to_integer<size_t>(rest[1]);
    const size_t answer_size = std::to_integer<size_t>(rest[2]);
    rest = rest.subspan(3);
    if (rest.size() < command_size + answer_size) break;
    const ByteSpan command = rest.first(command_size);
    Bytes answer(rest.begin() + static_cast<std::ptrdiff_t>(command_size),
                 rest.begin() + static_cast<std::ptrdiff_t>(command_size + answer_size));
    rest = rest.subspan(command_size + answer_size);
    switch (what & 7) {
      case 0:
        recorder.on_hash_start();
        break;
      case 1:
        recorder.on_hash_data(command);
        break;
      case 2:
        recorder.on_hash_end();
        break;
      case 3:
        recorder.on_pcr_banks(answer);
        break;
      default:
        if (command.size() < kTpmHeaderSize || answer.size() < kTpmHeaderSize) break;
        // As the engine has it: an answer is as long as it says.
        store_be(answer.data() + 2, static_cast<uint32_t>(answer.size()));
        if ((what & 4) != 0) store_be(answer.data() + 6, kRcSuccess);
        recorder.on_command(static_cast<uint8_t>(what >> 5), command, answer);
    }
    check(recorder);
  }
  return 0;
}
