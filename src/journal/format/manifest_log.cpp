// MANIFEST as a log: what an edit says, and a file's stores one after the other.
//
//   0      magic "HFFD", version, zero (2)
//   8      length of the edit (4), flags (4): 1 the horizon moved
//   16     generation (8), digest of the store before (32), next file number (8)
//   64     segments that go, from the front; that are closed or collected now; that are new
//   76     bases that go, from the front; that are new; incarnations that are new  (4 each)
//   88     kept files that go; that are new; points that go; that are new          (4 each)
//   104    horizon ‖ incarnations ‖ segments closed ‖ segments new ‖ bases new ‖ numbers of kept
//          files that go ‖ kept files new ‖ points that go ‖ points new ‖ SHA-256 of all before
#include <algorithm>

#include "journal/format/manifest_wire.h"

namespace hf::journal {

using namespace manifest_wire;

namespace {

constexpr uint32_t kEditMagic = 0x44464648;  // "HFFD"
constexpr size_t kEditFixedSize = 104;
constexpr uint32_t kFlagHorizon = 1;
constexpr size_t kManifestMax = 64u << 20;  // far beyond any journal; what a bad file can ask for
constexpr std::string_view kWhere = "MANIFEST";

struct Edit {
  uint64_t generation = 0;
  Digest before;
  uint64_t next_file_number = 0;
  std::optional<Horizon> horizon;
  size_t segments_gone = 0;
  std::vector<SegmentEntry> segments_closed;
  std::vector<SegmentEntry> segments_new;
  size_t bases_gone = 0;
  std::vector<BaseEntry> bases_new;
  Lineage lineage_new;
  std::vector<uint64_t> kept_gone;
  std::vector<KeptFile> kept_new;
  std::vector<uint64_t> points_gone;
  std::vector<uint64_t> points_new;

  size_t encoded_size() const {
    return kEditFixedSize + (horizon ? kHorizonSize : 0) + lineage_new.size() * kLineageEntrySize +
           (segments_closed.size() + segments_new.size()) * kSegmentSize +
           bases_new.size() * kBaseSize + kept_new.size() * kKeptSize +
           (kept_gone.size() + points_gone.size() + points_new.size()) * kNumberSize + kDigestSize;
  }
};

Bytes encode_edit(const Edit& edit) {
  Bytes bytes(edit.encoded_size());
  FieldWriter out(bytes);
  out.number(kEditMagic);
  out.number(kVersion);
  out.zeroes(2);
  out.number(static_cast<uint32_t>(bytes.size()));
  out.number(edit.horizon ? kFlagHorizon : 0u);
  out.number(edit.generation);
  out.bytes(edit.before.span());
  out.number(edit.next_file_number);
  out.number(static_cast<uint32_t>(edit.segments_gone));
  out.number(static_cast<uint32_t>(edit.segments_closed.size()));
  out.number(static_cast<uint32_t>(edit.segments_new.size()));
  out.number(static_cast<uint32_t>(edit.bases_gone));
  out.number(static_cast<uint32_t>(edit.bases_new.size()));
  out.number(static_cast<uint32_t>(edit.lineage_new.size()));
  out.number(static_cast<uint32_t>(edit.kept_gone.size()));
  out.number(static_cast<uint32_t>(edit.kept_new.size()));
  out.number(static_cast<uint32_t>(edit.points_gone.size()));
  out.number(static_cast<uint32_t>(edit.points_new.size()));
  HF_ASSERT(out.at() == kEditFixedSize);
  if (edit.horizon) put_horizon(out, *edit.horizon);
  out.bytes(encode_lineage(edit.lineage_new, Sequence(kNumberMax)));
  for (const SegmentEntry& entry : edit.segments_closed) put_segment(out, entry);
  for (const SegmentEntry& entry : edit.segments_new) put_segment(out, entry);
  for (const BaseEntry& entry : edit.bases_new) put_base(out, entry);
  for (const uint64_t number : edit.kept_gone) out.number(number);
  for (const KeptFile& file : edit.kept_new) put_kept(out, file);
  for (const uint64_t point : edit.points_gone) out.number(point);
  for (const uint64_t point : edit.points_new) out.number(point);
  out.bytes(crypto::sha256(ByteSpan(bytes).first(out.at())).span());
  HF_ASSERT(out.at() == bytes.size() && bytes.size() % kAlignment == 0);
  return bytes;
}

// The edit that begins here, if it is whole: nothing more is said of what it contains.
std::optional<ByteSpan> whole_edit(ByteSpan from) {
  if (from.size() < kEditFixedSize + kDigestSize) return std::nullopt;
  if (load_le<uint32_t>(from.data()) != kEditMagic) return std::nullopt;
  const size_t size = load_le<uint32_t>(from.data() + 8);
  if (size < kEditFixedSize + kDigestSize || size > kManifestEditMax || size > from.size() ||
      size % kAlignment != 0) {
    return std::nullopt;
  }
  const ByteSpan body = from.first(size - kDigestSize);
  if (!crypto::constant_time_equal(crypto::sha256(body).span(),
                                   from.subspan(body.size(), kDigestSize))) {
    return std::nullopt;
  }
  return from.first(size);
}

// `lineage` is what it continues: an incarnation is checked against the one before.
Result<Edit> decode_edit(ByteSpan whole, const Lineage& lineage) {
  FieldReader in(whole);
  in.bytes(4);
  if (in.number<uint16_t>() != kVersion) {
    return Error{.code = ErrorCode::kUnsupported, .cause = "an edit of another version"};
  }
  in.bytes(6);
  const auto flags = in.number<uint32_t>();
  if ((flags & ~kFlagHorizon) != 0) return corrupt("an edit with an unknown flag");
  Edit edit;
  edit.generation = in.counted();
  edit.before = in.id<Digest>();
  edit.next_file_number = in.counted();
  edit.segments_gone = in.number<uint32_t>();
  const auto closed = in.number<uint32_t>();
  const auto added = in.number<uint32_t>();
  edit.bases_gone = in.number<uint32_t>();
  const auto bases = in.number<uint32_t>();
  const auto incarnations = in.number<uint32_t>();
  const auto kept_gone = in.number<uint32_t>();
  const auto kept_new = in.number<uint32_t>();
  const auto points_gone = in.number<uint32_t>();
  const auto points_new = in.number<uint32_t>();
  const uint64_t expected = kEditFixedSize + ((flags & kFlagHorizon) != 0 ? kHorizonSize : 0) +
                            kDigestSize + uint64_t{incarnations} * kLineageEntrySize +
                            (uint64_t{closed} + added) * kSegmentSize +
                            uint64_t{bases} * kBaseSize + uint64_t{kept_new} * kKeptSize +
                            (uint64_t{kept_gone} + points_gone + points_new) * kNumberSize;
  if (expected != whole.size()) return corrupt("an edit's counts do not fit");
  if ((flags & kFlagHorizon) != 0) edit.horizon = get_horizon(in);
  const ByteSpan more = in.bytes(size_t{incarnations} * kLineageEntrySize);
  edit.lineage_new = TRY(decode_lineage_after(lineage, more));
  for (uint32_t i = 0; i < closed; ++i) edit.segments_closed.push_back(get_segment(in));
  for (uint32_t i = 0; i < added; ++i) edit.segments_new.push_back(get_segment(in));
  for (uint32_t i = 0; i < bases; ++i) edit.bases_new.push_back(get_base(in));
  for (uint32_t i = 0; i < kept_gone; ++i) edit.kept_gone.push_back(in.counted());
  for (uint32_t i = 0; i < kept_new; ++i) edit.kept_new.push_back(get_kept(in));
  TRY(check_kept(edit.kept_new));
  for (uint32_t i = 0; i < points_gone; ++i) edit.points_gone.push_back(in.counted());
  for (uint32_t i = 0; i < points_new; ++i) edit.points_new.push_back(in.counted());
  if (!in.in_range()) return corrupt(kOutOfRange);
  return edit;
}

template <typename Entry>
void drop_front(std::vector<Entry>& list, size_t count) {
  list.erase(list.begin(), list.begin() + static_cast<ptrdiff_t>(count));
}
template <typename Entry>
void append(std::vector<Entry>& list, const std::vector<Entry>& more) {
  list.insert(list.end(), more.begin(), more.end());
}

// What an entry may become: closed, and from then on collected.
bool follows(const SegmentEntry& before, const SegmentEntry& now) {
  if (before.number != now.number || before == now) return false;
  if (!before.closed) return now.closed.has_value() && !now.collected;
  return before.closed == now.closed && now.collected;
}

template <typename Entry, typename Number>
std::set<uint64_t> numbers_of(const std::vector<Entry>& list, const Number& number) {
  std::set<uint64_t> numbers;
  for (const Entry& entry : list) numbers.insert(number(entry));
  return numbers;
}

// Takes `gone` out of `list`, and adds `more`. False: one is not there, or there already.
template <typename Entry, typename Number>
bool exchange(std::vector<Entry>& list, const std::vector<uint64_t>& gone,
              const std::vector<Entry>& more, const Number& number) {
  for (const uint64_t each : gone) {
    if (std::erase_if(list, [&](const Entry& entry) { return number(entry) == each; }) != 1) {
      return false;
    }
  }
  for (const Entry& entry : more) {
    const auto same = [&](const Entry& other) { return number(other) == number(entry); };
    if (std::ranges::any_of(list, same)) return false;
    list.push_back(entry);
  }
  return true;
}
uint64_t kept_number(const KeptFile& file) { return file.number; }
uint64_t point_number(uint64_t point) { return point; }

// What exchange() needs to come from `stored` to `next`.
template <typename Entry, typename Number>
void compare(const std::vector<Entry>& stored, const std::vector<Entry>& next,
             std::vector<uint64_t>& gone, std::vector<Entry>& more, const Number& number) {
  const std::set<uint64_t> before = numbers_of(stored, number);
  const std::set<uint64_t> now = numbers_of(next, number);
  for (const uint64_t each : before) {
    if (!now.contains(each)) gone.push_back(each);
  }
  for (const Entry& entry : next) {
    if (!before.contains(number(entry))) more.push_back(entry);
  }
}

Status apply(Manifest& state, const Edit& edit) {
  if (edit.segments_gone > state.segments.size() || edit.bases_gone > state.bases.size()) {
    return corrupt("an edit takes away more than there is");
  }
  if (edit.next_file_number < state.next_file_number) {
    return corrupt("an edit gives file numbers out again");
  }
  drop_front(state.segments, edit.segments_gone);
  drop_front(state.bases, edit.bases_gone);
  for (const SegmentEntry& entry : edit.segments_closed) {
    const auto found = std::ranges::find(state.segments, entry.number, &SegmentEntry::number);
    if (found == state.segments.end() || !follows(*found, entry)) {
      return corrupt("an edit closes a segment that is not open, or collects it twice");
    }
    *found = entry;
  }
  append(state.segments, edit.segments_new);
  append(state.bases, edit.bases_new);
  append(state.lineage, edit.lineage_new);
  if (!exchange(state.kept, edit.kept_gone, edit.kept_new, kept_number) ||
      !exchange(state.points, edit.points_gone, edit.points_new, point_number)) {
    return corrupt("an edit takes away what is not there, or adds what is");
  }
  state.next_file_number = edit.next_file_number;
  if (edit.horizon) state.horizon = *edit.horizon;
  return check_order(state.segments);
}

// How many of `stored` from the front are not in `next` any more, the others staying in order.
template <typename Entry>
size_t gone_from_front(const std::vector<Entry>& stored, const std::vector<Entry>& next) {
  if (next.empty()) return stored.size();
  const auto found = std::ranges::find(stored, next.front().number, &Entry::number);
  return static_cast<size_t>(found - stored.begin());
}

// nullopt: `next` is not `stored` less some from the front, some closed, some more at the end.
std::optional<Edit> difference(const Manifest& stored, const Manifest& next) {
  if (stored.vm != next.vm || stored.public_key != next.public_key) return std::nullopt;
  Edit edit{.generation = stored.generation + 1,
            .before = stored.last_store,
            .next_file_number = next.next_file_number};
  if (stored.horizon != next.horizon) edit.horizon = next.horizon;
  edit.segments_gone = gone_from_front(stored.segments, next.segments);
  size_t at = 0;
  for (size_t i = edit.segments_gone; i < stored.segments.size(); ++i, ++at) {
    if (at == next.segments.size()) return std::nullopt;
    const SegmentEntry& before = stored.segments[i];
    const SegmentEntry& now = next.segments[at];
    if (before == now) continue;
    if (!follows(before, now)) return std::nullopt;
    edit.segments_closed.push_back(now);
  }
  edit.segments_new.assign(next.segments.begin() + static_cast<ptrdiff_t>(at), next.segments.end());
  edit.bases_gone = gone_from_front(stored.bases, next.bases);
  const size_t bases_kept = stored.bases.size() - edit.bases_gone;
  if (bases_kept > next.bases.size()) return std::nullopt;
  edit.bases_new.assign(next.bases.begin() + static_cast<ptrdiff_t>(bases_kept), next.bases.end());
  if (stored.lineage.size() > next.lineage.size()) return std::nullopt;
  edit.lineage_new.assign(next.lineage.begin() + static_cast<ptrdiff_t>(stored.lineage.size()),
                          next.lineage.end());
  compare(stored.kept, next.kept, edit.kept_gone, edit.kept_new, kept_number);
  compare(stored.points, next.points, edit.points_gone, edit.points_new, point_number);
  return edit;
}

Status take_edit(ManifestLog& log, ByteSpan whole) {
  const Edit edit = TRY(decode_edit(whole, log.state.lineage));
  if (edit.generation != log.state.generation + 1 || edit.before != log.state.last_store) {
    return corrupt("an edit does not follow the store before it");
  }
  TRY(apply(log.state, edit));
  log.state.generation = edit.generation;
  std::ranges::copy(whole.last(kDigestSize), log.state.last_store.bytes.begin());
  log.end += whole.size();
  ++log.stores;
  return {};
}

}  // namespace

std::optional<ManifestStore> edit_between(const Manifest& stored, Manifest next) {
  const std::optional<Edit> edit = difference(stored, next);
  if (!edit || edit->encoded_size() > kManifestEditMax) return std::nullopt;
  Bytes bytes = encode_edit(*edit);
  next.generation = edit->generation;
  std::ranges::copy(ByteSpan(bytes).last(kDigestSize), next.last_store.bytes.begin());
  // What was compared from one side has to come out from the other.
  Manifest applied = stored;
  if (!apply(applied, *edit).ok()) return std::nullopt;
  applied.generation = next.generation;
  applied.last_store = next.last_store;
  if (applied != next) return std::nullopt;
  return ManifestStore{.bytes = std::move(bytes), .state = std::move(next)};
}

bool lists_new_files(const Manifest& stored, const Manifest& next) {
  const auto is_new = [](const auto& before, const auto& entry) {
    return std::ranges::find(before, entry.number,
                             [](const auto& other) { return other.number; }) == before.end();
  };
  return std::ranges::any_of(next.segments,
                             [&](const auto& entry) { return is_new(stored.segments, entry); }) ||
         std::ranges::any_of(next.bases,
                             [&](const auto& entry) { return is_new(stored.bases, entry); }) ||
         std::ranges::any_of(next.kept,
                             [&](const auto& entry) { return is_new(stored.kept, entry); });
}

Result<ManifestLog> decode_manifest_log(ByteSpan from) {
  manifest_wire::Snapshot snapshot = TRY(decode_snapshot(from));
  ManifestLog log{.state = std::move(snapshot.state), .end = snapshot.size, .stores = 1};
  while (log.end < from.size()) {
    const std::optional<ByteSpan> edit = whole_edit(from.subspan(log.end));
    if (!edit) break;
    TRY(take_edit(log, *edit));
  }
  // The last edit may be torn, and no other.
  const ByteSpan rest = from.subspan(log.end);
  if (rest.size() > kManifestEditMax) return corrupt("an edit is damaged that others follow");
  for (size_t at = kAlignment; at < rest.size(); at += kAlignment) {
    if (whole_edit(rest.subspan(at))) return corrupt("an edit is damaged that others follow");
  }
  return log;
}

Result<Manifest> decode_manifest(ByteSpan from) {
  return std::move(TRY(decode_manifest_log(from)).state);
}

Result<Manifest> load_manifest(Storage& storage) {
  const FileId file = TRY_CONTEXT(storage.open(kManifestName, OpenMode::kRead), kWhere);
  auto read = [&]() -> Result<Manifest> {
    const uint64_t size = TRY(storage.size(file));
    if (size > kManifestMax) return corrupt("the file is too long");
    Bytes bytes(size);
    TRY(storage.read_now(file, 0, bytes));
    return decode_manifest(bytes);
  };
  Result<Manifest> manifest = read();
  TRY(storage.close(file));
  if (!manifest.ok()) return std::move(manifest).error().context(kWhere);
  return manifest;
}

Status store_manifest(Storage& storage, const ManifestStore& snapshot) {
  // A crash may have left a half-written one.
  if (Status removed = storage.remove(kManifestNewName);
      !removed.ok() && removed.error().code != ErrorCode::kNotFound) {
    return std::move(removed).error().context(kManifestNewName);
  }
  const FileId file =
      TRY_CONTEXT(storage.open(kManifestNewName, OpenMode::kCreate), kManifestNewName);
  Status written = storage.write_now(file, 0, snapshot.bytes);
  if (written.ok()) written = storage.sync_now(file);
  Status closed = storage.close(file);
  if (!written.ok()) return std::move(written).error().context(kManifestNewName);
  TRY(std::move(closed));
  // The names it lists must be durable before it can be: renames and creations may reach the disk
  // in any order between two directory syncs.
  TRY(storage.sync_directory());
  TRY_CONTEXT(storage.rename(kManifestNewName, kManifestName), kWhere);
  return storage.sync_directory();
}

}  // namespace hf::journal
