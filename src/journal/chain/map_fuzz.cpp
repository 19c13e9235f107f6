// Fuzzes what reads maps: the input as a table of one or two levels whose hashes were put right, or
// nothing but them would ever be tested. Whatever the bytes are: an answer or an error.
#include "base/fuzz_input.h"
#include "crypto/crypto.h"
#include "journal/chain/lookup.h"
#include "journal/chain/source.h"

namespace hf::journal {
namespace {

void mend_hashes(Bytes& file, size_t page, size_t end) {
  for (size_t at = page + kPageHeaderSize; at + kPageReferenceSize <= end;) {
    const auto offset = load_le<uint64_t>(file.data() + at + 16);
    const auto length = load_le<uint32_t>(file.data() + at + 24);
    if (offset <= page && length <= page - offset) {
      const Digest hash = crypto::sha256(ByteSpan(file).subspan(offset, length));
      std::ranges::copy(hash.bytes, file.begin() + static_cast<ptrdiff_t>(at + 32));
    }
    at += kPageReferenceSize + std::min<size_t>(load_le<uint32_t>(file.data() + at + 28), end);
  }
}

template <typename Asker>
bool run(Asker& asker, PageCache& cache, const Bytes& file) {
  while (true) {
    const auto step = asker.run();
    if (!step.ok() || *step != Step::kNeedsPage) return step.ok() && *step == Step::kReady;
    const PageRequest request = asker.request();
    if (request.page.offset > file.size() ||
        request.page.length > file.size() - request.page.offset) {
      return false;
    }
    const ByteSpan bytes = ByteSpan(file).subspan(request.page.offset, request.page.length);
    if (!cache.put(request, Bytes(bytes.begin(), bytes.end())).ok()) return false;
  }
}

// First two bytes: where the root's page begins.
void walk(ByteSpan input) {
  static_cast<void>(decode_table_footer(input).ok());
  if (input.size() < 2 + kPageHeaderSize || input.size() > kTablePageMax) return;
  const size_t size = input.size() - 2;
  const size_t root = load_le<uint16_t>(input.data()) % (size - kPageHeaderSize + 1);
  Bytes file(input.begin() + 2, input.end());
  mend_hashes(file, root, size);
  Table table;
  table.footer.levels = static_cast<uint8_t>(file[root]);
  if (table.footer.levels == 0 || table.footer.levels > kTableLevelMax) return;
  table.footer.entries = 1;
  table.footer.root = {.offset = root,
                       .length = static_cast<uint32_t>(size - root),
                       .hash = crypto::sha256(ByteSpan(file).subspan(root))};
  if (size - root >= kPageHeaderSize + 16) {
    table.footer.root.first = {
        .major = load_le<uint64_t>(file.data() + root + kPageHeaderSize),
        .minor = load_le<uint64_t>(file.data() + root + kPageHeaderSize + 8)};
  }
  PageCache cache(1u << 20);
  MapSource source(table, cache);
  uint64_t entries = 0;
  while (run(source, cache, file)) {
    HF_ASSERT(source.current().length > 0 && source.current().end() <= kNumberMax);
    HF_ASSERT(++entries <= 100u * kTablePageMax);
    source.next();
  }
  const Chain chain{.maps = {&table}};
  Lookup lookup(chain, cache, VolumeId(1), {.offset = 4096, .length = 65536});
  run(lookup, cache, file);
}

}  // namespace
}  // namespace hf::journal

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  hf::journal::walk(hf::fuzz_input(data, size));
  return 0;
}
