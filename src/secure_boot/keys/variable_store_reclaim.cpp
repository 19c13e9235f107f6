// The fault tolerant write queue (edk2, MdeModulePkg/Universal/FaultTolerantWriteDxe).
//
//   working block:  header (32 bytes) | write header (40) | record (40 + private data) … | write …
//
// State bits are set by clearing them. A write's life: header allocated → writes allocated → the
// target's new blocks in the spare, "spare complete" → target erased and written, "destination
// complete" → write "complete". Between the last but two and the last but one the target's content
// is anything; the spare holds it.
#include <fmt/format.h>

#include <algorithm>

#include "secure_boot/keys/variable_store_format.h"

namespace hf::secure_boot::store_format {
namespace {

constexpr size_t kWorkingHeaderSize = 32;
// GUID 9e58292b-7c68-497d-a0ce-6500fd9f1b95, CRC-32, state "valid", queue size 0xfe0. All of it is
// fixed for a working block of 0x1000 bytes; the firmware too compares it as a whole.
constexpr std::array<uint8_t, kWorkingHeaderSize> kWorkingHeader = {
    0x2b, 0x29, 0x58, 0x9e, 0x68, 0x7c, 0x7d, 0x49, 0xa0, 0xce, 0x65, 0x00, 0xfd, 0x9f, 0x1b, 0x95,
    0x2c, 0xaf, 0x2c, 0x64, 0xfe, 0xff, 0xff, 0xff, 0xe0, 0x0f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};

constexpr size_t kWriteHeaderSize = 40, kWritesAt = 24, kPrivateSizeAt = 32;
constexpr size_t kRecordSize = 40, kLbaAt = 8, kOffsetAt = 16, kLengthAt = 24, kRelativeAt = 32;
constexpr std::byte kAllocated{1}, kComplete{4};                 // of a write
constexpr std::byte kSpareComplete{2}, kDestinationComplete{4};  // of a record

bool is_set(std::byte state, std::byte bit) { return (state & bit) == std::byte{0}; }

Error corrupt(size_t at, std::string what) {
  return Error{.code = ErrorCode::kCorrupt,
               .cause = fmt::format("variable store, byte {:#x}: {}", at, what),
               .effect = "An interrupted write of the firmware cannot be brought to its end",
               .mend = "start the VM once, so that its firmware repairs the store"};
}

bool valid_header(ByteSpan block) {
  return std::ranges::equal(block.first(kWorkingHeaderSize), kWorkingHeader, {},
                            [](std::byte b) { return static_cast<uint8_t>(b); });
}

void reset_working_block(MutableByteSpan block) {
  std::ranges::fill(block, kErased);
  std::ranges::transform(kWorkingHeader, block.begin(),
                         [](uint8_t b) { return static_cast<std::byte>(b); });
}

using Found = std::optional<size_t>;
constexpr Found kNone;

// The first record that is not complete in the first write that is not; nothing if all are.
Result<Found> unfinished_record(ByteSpan image, const Layout& layout) {
  const size_t end = layout.working_at + kBlock;
  size_t at = layout.working_at + kWorkingHeaderSize;
  while (end - at >= kWriteHeaderSize) {
    const std::byte state = image[at];
    if (state == kErased || !is_set(state, kAllocated)) return kNone;
    const uint64_t writes = load_le<uint64_t>(&image[at + kWritesAt]);
    const uint64_t private_size = load_le<uint64_t>(&image[at + kPrivateSizeAt]);
    if (!is_set(state, kComplete) && (writes == ~uint64_t{0} || private_size == ~uint64_t{0})) {
      return kNone;  // allocated, not yet described
    }
    const size_t left = end - at - kWriteHeaderSize;
    if (private_size > left || writes > left / (kRecordSize + private_size)) {
      return corrupt(at, "a write in the queue is longer than the queue");
    }
    const size_t step = kRecordSize + private_size;
    if (!is_set(state, kComplete)) {
      for (size_t i = 0; i < writes; ++i) {
        const size_t record = at + kWriteHeaderSize + i * step;
        if (!is_set(image[record], kDestinationComplete)) return Found(record);
      }
      return kNone;
    }
    at += kWriteHeaderSize + writes * step;
  }
  return kNone;
}

}  // namespace

Result<bool> recover_reclaim(MutableByteSpan image, const Layout& layout) {
  const MutableByteSpan working = image.subspan(layout.working_at, kBlock);
  if (!valid_header(working)) {
    // Cut off while the queue itself was rewritten, which happens only between two writes.
    reset_working_block(working);
    return true;
  }
  const std::optional<size_t> record = TRY(unfinished_record(image, layout));
  if (!record || !is_set(image[*record], kSpareComplete)) return false;
  const uint64_t lba = load_le<uint64_t>(&image[*record + kLbaAt]);
  const uint64_t offset = load_le<uint64_t>(&image[*record + kOffsetAt]);
  const uint64_t length = load_le<uint64_t>(&image[*record + kLengthAt]);
  const auto relative = static_cast<int64_t>(load_le<uint64_t>(&image[*record + kRelativeAt]));
  const uint64_t region = layout.region_end;
  if (lba >= region / kBlock || offset > region || length == 0 || length > region) {
    return corrupt(*record, "a pending write that is not to the variables");
  }
  const size_t target = lba * kBlock;
  const size_t size = (offset + length + kBlock - 1) / kBlock * kBlock;
  if (size > region - target || size > image.size() - layout.spare_at ||
      relative != static_cast<int64_t>(target) - static_cast<int64_t>(layout.spare_at)) {
    return corrupt(*record, "a pending write that is not to the variables");
  }
  std::ranges::copy(image.subspan(layout.spare_at, size),
                    image.begin() + static_cast<std::ptrdiff_t>(target));
  reset_working_block(working);
  return true;
}

}  // namespace hf::secure_boot::store_format
