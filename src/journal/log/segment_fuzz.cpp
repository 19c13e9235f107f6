// Fuzzes what reads a journal's files: the decoders on raw input, and recovery over a valid journal
// whose files were changed as the input says (with checksums put right, or nothing but them would
// ever be tested). Whatever the bytes are: an answer or an error, never a crash, never a write.
#include <algorithm>
#include <map>

#include "base/crc32c.h"
#include "base/fuzz_input.h"
#include "journal/journal.h"
#include "journal/log/recovery.h"
#include "sim/world/storage.h"

namespace hf::journal {
namespace {

struct Ignored final : Completion {
  void on_complete(Status) override {}
};

struct Seed {
  VmId vm;
  crypto::PublicKey key{};
  LogOptions log{.segment_bytes = 16u << 10,
                 .staging_bytes = kRecordSizeMax + (64u << 10),
                 .prepare_next = false};
  std::map<std::string, Bytes> files;
};

// A journal of several segments, the last one open.
Seed make_seed() {
  Seed seed;
  seed.vm.bytes.fill(std::byte{1});
  sim::Scheduler scheduler;
  sim::SimRng rng(1);
  sim::SimStorage storage(scheduler, rng.fork());
  sim::SimClock clock(scheduler);
  crypto::Secret gsp(crypto::kKeySize);
  JournalKeys keys = JournalKeys::derive(gsp, seed.vm, KeyVersion(1));
  seed.key = keys.public_key();
  auto journal = *Journal::create(storage, clock, rng, std::move(keys),
                                  {.vm = seed.vm, .epoch = Epoch(1), .log = seed.log});
  Ignored ignored;
  for (uint64_t i = 0; i < 40; ++i) {
    const Bytes data(100 + i * 20, static_cast<std::byte>(i));
    HF_ASSERT(journal->write(VolumeId(1), i * 512, data, &ignored).ok());
    scheduler.run_until_idle();
    journal->tick();
  }
  const std::vector<std::string> names = *storage.list();
  for (const std::string& name : names) seed.files[name] = *storage.contents(name);
  storage.kill_process();
  return seed;
}

void decode_all(ByteSpan input) {
  static_cast<void>(decode_header(input).ok());
  static_cast<void>(decode_incarnation(input).ok());
  static_cast<void>(decode_close(input).ok());
  static_cast<void>(decode_extent(input).ok());
  static_cast<void>(decode_segment_header(input).ok());
  static_cast<void>(decode_footer(input).ok());
  static_cast<void>(decode_manifest(input).ok());
  static_cast<void>(parse_record(input).ok());
}

// Makes the checksums of the record at `at` fit again, if one could stand there.
void mend_record(Bytes& file, size_t at) {
  if (at + kRecordHeaderSize > file.size()) return;
  const size_t payload = load_le<uint32_t>(file.data() + at + 88);
  if (payload <= file.size() - at - kRecordHeaderSize) {
    const Digest digest = crypto::sha256(ByteSpan(file).subspan(at + kRecordHeaderSize, payload));
    std::ranges::copy(digest.bytes, file.begin() + static_cast<ptrdiff_t>(at + kRecordAadSize));
  }
  store_le(file.data() + at + 176, crc32c(ByteSpan(file).subspan(at, 176)));
}

// Makes the digests of MANIFEST's stores, and what each says of the one before, fit again.
void mend_manifest(Bytes& file) {
  Digest before;
  size_t at = 0;
  const auto mend = [&](size_t size, size_t names_before) {
    if (size < 128 || size > file.size() - at) return false;
    const auto put = [&](size_t to, const Digest& digest) {
      std::ranges::copy(digest.bytes, file.begin() + static_cast<ptrdiff_t>(at + to));
    };
    if (at > 0) put(names_before, before);
    before = crypto::sha256(ByteSpan(file).subspan(at, size - 32));
    put(size - 32, before);
    at += size;
    return true;
  };
  if (file.size() < 16 || !mend(load_le<uint64_t>(file.data() + 8), 24)) return;
  while (file.size() - at >= 16 && mend(load_le<uint32_t>(file.data() + at + 8), 24)) {
  }
}

void recover_changed(const Seed& seed, ByteSpan input) {
  std::map<std::string, Bytes> files = seed.files;
  // Changes of 5 bytes: file, offset (2), value, and whether to mend.
  for (; input.size() >= 5; input = input.subspan(5)) {
    auto file = files.begin();
    std::advance(file, static_cast<size_t>(input[0]) % files.size());
    if (file->second.empty()) continue;
    const size_t at = load_le<uint16_t>(input.data() + 1) % file->second.size();
    file->second[at] = input[3];
    if ((input[4] & std::byte{1}) != std::byte{0}) mend_record(file->second, at & ~size_t{63});
    if ((input[4] & std::byte{2}) != std::byte{0}) file->second.resize(at);
    if (file->first == kManifestName) mend_manifest(file->second);
  }
  sim::Scheduler scheduler;
  sim::SimStorage storage(scheduler, sim::SimRng(1));
  for (const auto& [name, bytes] : files) {
    const FileId file = *storage.open(name, OpenMode::kCreate);
    HF_ASSERT(storage.write_now(file, 0, bytes).ok());
    HF_ASSERT(storage.close(file).ok());
  }
  auto recovered = recover(storage, seed.vm, seed.key, seed.log, nullptr);
  if (recovered.ok()) close_files(storage, *recovered);
  for (const auto& [name, bytes] : files) HF_ASSERT(*storage.contents(name) == bytes);
}

}  // namespace
}  // namespace hf::journal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const hf::journal::Seed seed = hf::journal::make_seed();
  const hf::ByteSpan input = hf::fuzz_input(data, size);
  hf::journal::decode_all(input);
  if (size <= 200) hf::journal::recover_changed(seed, input);
  return 0;
}
