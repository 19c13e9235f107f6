#include "secure_boot/keys/variable_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "secure_boot/keys/variable_store_format.h"

namespace hf::secure_boot {
namespace {

using namespace store_format;

Error corrupt(size_t at, std::string what) {
  return Error{.code = ErrorCode::kCorrupt,
               .cause = fmt::format("variable store, byte {:#x}: {}", at, what)};
}

Status check_volume_header(ByteSpan image) {
  if (Guid::load(&image[kVolumeGuidAt]) != kVolumeGuid ||
      as_text(image.subspan(kVolumeSignatureAt, 4)) != "_FVH") {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "no UEFI variable store: it does not begin with the header of one",
                 .mend = "name a flash image such as a copy of OVMF_VARS_4M.fd"};
  }
  if (load_le<uint64_t>(&image[kVolumeLengthAt]) != image.size()) {
    return corrupt(kVolumeLengthAt, "the volume's length is not the image's");
  }
  if (load_le<uint16_t>(&image[kVolumeHeaderLengthAt]) != kVolumeHeaderSize) {
    return corrupt(kVolumeHeaderLengthAt, "a volume header of unknown length");
  }
  uint16_t sum = 0;
  for (size_t at = 0; at < kVolumeHeaderSize; at += 2) {
    sum = static_cast<uint16_t>(sum + load_le<uint16_t>(&image[at]));
  }
  if (sum != 0) return corrupt(kVolumeChecksumAt, "the volume header's checksum is wrong");
  return {};
}

Status check_store_header(ByteSpan image, size_t region_end) {
  const size_t at = kVolumeHeaderSize;
  if (Guid::load(&image[at]) == kPlainStoreGuid) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "a variable store without authenticated variables"};
  }
  if (Guid::load(&image[at]) != kAuthenticatedStoreGuid) {
    return corrupt(at, "the store header's GUID is unknown");
  }
  if (load_le<uint32_t>(&image[at + kStoreSizeAt]) != region_end - at) {
    return corrupt(at + kStoreSizeAt, "the store's size does not fit its flash image");
  }
  if (image[at + kStoreFormatAt] != kStoreFormatted || image[at + kStoreStateAt] != kStoreHealthy) {
    return corrupt(at + kStoreFormatAt, "the store is not formatted or not healthy");
  }
  return {};
}

bool erased(ByteSpan bytes) {
  return std::ranges::all_of(bytes, [](std::byte b) { return b == kErased; });
}

struct RawRecord {
  size_t size = 0;  // aligned
  std::byte state{};
  ByteSpan name, data;
};

// As the firmware walks: a header that was begun but not finished counts as empty.
Result<RawRecord> raw_record(ByteSpan region, size_t at) {
  if (region.size() - at < kRecordHeaderSize) return corrupt(at, "a record's header is cut off");
  const ByteSpan header = region.subspan(at, kRecordHeaderSize);
  size_t name = load_le<uint32_t>(&header[kNameSizeAt]);
  size_t data = load_le<uint32_t>(&header[kDataSizeAt]);
  const std::byte state = header[kStateAt];
  if (state == kErased || name == kErasedWord || data == kErasedWord ||
      load_le<uint32_t>(&header[kAttributesAt]) == kErasedWord) {
    name = data = 0;
  }
  const size_t left = region.size() - at - kRecordHeaderSize;
  if (name > left || data > left - name) {
    return corrupt(at,
                   fmt::format("a record of {} + {} bytes reaches beyond the store", name, data));
  }
  const size_t size = align(kRecordHeaderSize + name + data);
  if (size > region.size() - at) return corrupt(at, "a record reaches beyond the store");
  return RawRecord{.size = size,
                   .state = state,
                   .name = region.subspan(at + kRecordHeaderSize, name),
                   .data = region.subspan(at + kRecordHeaderSize + name, data)};
}

bool is_live(std::byte state) { return state == kAdded || state == kInTransition; }

Result<Variable> decode(ByteSpan region, size_t at, const RawRecord& raw) {
  if (raw.name.size() < 4 || raw.name.size() % 2 != 0) {
    return corrupt(at, fmt::format("a variable with a name of {} bytes", raw.name.size()));
  }
  const std::byte* header = &region[at];
  Variable variable{.vendor = Guid::load(header + kVendorAt),
                    .attributes = load_le<uint32_t>(header + kAttributesAt),
                    .data = Bytes(raw.data.begin(), raw.data.end()),
                    .time = EfiTime::load(header + kTimeAt),
                    .monotonic_count = load_le<uint64_t>(header + kMonotonicAt),
                    .public_key_index = load_le<uint32_t>(header + kPublicKeyAt)};
  for (size_t i = 0; i < raw.name.size(); i += 2) {
    variable.name.push_back(static_cast<char16_t>(load_le<uint16_t>(&raw.name[i])));
  }
  if (variable.name.find(u'\0') != variable.name.size() - 1) {
    return corrupt(at, "a variable's name does not end where it should");
  }
  variable.name.pop_back();
  return variable;
}

Bytes encode(const Variable& variable) {
  const size_t name_size = 2 * (variable.name.size() + 1);
  Bytes out(align(kRecordHeaderSize + name_size + variable.data.size()), kErased);
  store_le<uint16_t>(&out[0], kRecordStart);
  out[kStateAt] = kAdded;
  out[kStateAt + 1] = std::byte{0};
  store_le<uint32_t>(&out[kAttributesAt], variable.attributes);
  store_le<uint64_t>(&out[kMonotonicAt], variable.monotonic_count);
  variable.time.store(&out[kTimeAt]);
  store_le<uint32_t>(&out[kPublicKeyAt], variable.public_key_index);
  store_le<uint32_t>(&out[kNameSizeAt], static_cast<uint32_t>(name_size));
  store_le<uint32_t>(&out[kDataSizeAt], static_cast<uint32_t>(variable.data.size()));
  variable.vendor.store(&out[kVendorAt]);
  std::byte* to = &out[kRecordHeaderSize];
  for (size_t i = 0; i <= variable.name.size(); ++i, to += 2) {
    const char16_t unit = i < variable.name.size() ? variable.name[i] : u'\0';
    store_le<uint16_t>(to, static_cast<uint16_t>(unit));
  }
  std::ranges::copy(variable.data, to);
  return out;
}

bool same(const Variable& variable, const Guid& vendor, std::u16string_view name) {
  return variable.vendor == vendor && variable.name == name;
}

Status check_settable(const Variable& variable) {
  const auto invalid = [&](std::string_view why) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = fmt::format("variable \"{}\": {}", variable.name_text(), why)};
  };
  if (variable.name.empty() || variable.name.find(u'\0') != std::u16string::npos) {
    return invalid("its name is empty or holds a NUL");
  }
  if (variable.data.empty()) return invalid("no data; a variable without data does not exist");
  constexpr uint32_t kSettable = attribute::kSecureBoot | attribute::kHardwareError;
  if ((variable.attributes & attribute::kNonVolatile) == 0 ||
      (variable.attributes & attribute::kBootService) == 0 ||
      (variable.attributes & ~kSettable) != 0) {
    return invalid(fmt::format("attributes {:#x} cannot stand in a store", variable.attributes));
  }
  return {};
}

}  // namespace

std::u16string utf16(std::string_view ascii) { return {ascii.begin(), ascii.end()}; }

std::string Variable::name_text() const {
  std::string text;
  for (char16_t unit : name) {
    if (unit > 0x20 - 1 && unit < 0x7f && unit != u'\\') {
      text.push_back(static_cast<char>(unit));
    } else {
      text += fmt::format("\\u{:04x}", static_cast<uint16_t>(unit));
    }
  }
  return text;
}

Result<VariableStore> VariableStore::parse(ByteSpan image) {
  const auto* layout = std::ranges::find(kLayouts, image.size(), &store_format::Layout::image_size);
  if (layout == kLayouts.end()) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = fmt::format("an image of {} bytes is no OVMF variable store (540672 or "
                                      "131072 bytes)",
                                      image.size())};
  }
  VariableStore store;
  store.image_.assign(image.begin(), image.end());
  store.layout_ = *layout;
  store.recovered_ = TRY(recover_reclaim(store.image_, *layout));
  TRY(check_volume_header(store.image_));
  TRY(check_store_header(store.image_, layout->region_end));
  TRY(store.read_records());
  return store;
}

Status VariableStore::read_records() {
  const ByteSpan region = ByteSpan(image_).first(layout_.region_end);
  std::vector<Variable> found;
  std::vector<bool> settled;  // 0x3f, not 0x3e
  size_t at = kFirstRecordAt;
  while (at + 2 <= region.size() && load_le<uint16_t>(&region[at]) == kRecordStart) {
    const RawRecord raw = TRY(raw_record(region, at));
    if (is_live(raw.state)) {
      Variable variable = TRY(decode(region, at, raw));
      const auto twin = std::ranges::find_if(
          found, [&](const Variable& v) { return same(v, variable.vendor, variable.name); });
      const bool now_settled = raw.state == kAdded;
      if (twin == found.end()) {
        found.push_back(std::move(variable));
        settled.push_back(now_settled);
      } else if (const auto index = static_cast<size_t>(twin - found.begin());
                 now_settled && !settled[index]) {
        // Interrupted between the new record and the mark on the old one: the new one counts.
        *twin = std::move(variable);
        settled[index] = true;
      }
    }
    at += raw.size;
  }
  variables_ = std::move(found);
  end_ = std::min(at, region.size());
  return {};
}

const Variable* VariableStore::find(const Guid& vendor, std::string_view name) const {
  const std::u16string wanted = utf16(name);
  const auto found = std::ranges::find_if(
      variables_, [&](const Variable& variable) { return same(variable, vendor, wanted); });
  return found == variables_.end() ? nullptr : &*found;
}

bool VariableStore::mark_deleted(const Guid& vendor, std::u16string_view name) {
  const ByteSpan region = ByteSpan(image_).first(layout_.region_end);
  bool any = false;
  for (size_t at = kFirstRecordAt; at < end_;) {
    auto raw = raw_record(region, at);
    HF_ASSERT(raw.ok());  // parse() has been here
    if (is_live(raw->state)) {
      auto variable = decode(region, at, *raw);
      HF_ASSERT(variable.ok());
      if (same(*variable, vendor, name)) {
        image_[at + kStateAt] &= kDeletedMask;
        any = true;
      }
    }
    at += raw->size;
  }
  return any;
}

Status VariableStore::set(const Variable& variable) {
  TRY(check_settable(variable));
  const Bytes record = encode(variable);
  const size_t limit = (variable.attributes & attribute::kTimeAuthenticated) != 0
                           ? layout_.authenticated_bytes_max
                           : layout_.variable_bytes_max;
  if (record.size() > limit) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("variable \"{}\" needs {} bytes; this firmware takes {}",
                                      variable.name_text(), record.size(), limit)};
  }
  Bytes before = image_;
  mark_deleted(variable.vendor, variable.name);
  // All behind the last record must be erased: garbage there could pass for records later.
  const auto fits = [&] {
    return record.size() <= layout_.region_end - end_ &&
           erased(ByteSpan(image_).subspan(end_, layout_.region_end - end_));
  };
  if (!fits()) {
    HF_ASSERT(read_records().ok());
    compact();
  }
  if (!fits()) {
    image_ = std::move(before);
    HF_ASSERT(read_records().ok());
    return Error{.code = ErrorCode::kNoSpace,
                 .cause = fmt::format("variable \"{}\" needs {} bytes; {} are free",
                                      variable.name_text(), record.size(), bytes_free())};
  }
  std::ranges::copy(record, image_.begin() + static_cast<std::ptrdiff_t>(end_));
  HF_ASSERT(read_records().ok());
  return {};
}

bool VariableStore::remove(const Guid& vendor, std::string_view name) {
  const bool any = mark_deleted(vendor, utf16(name));
  HF_ASSERT(read_records().ok());
  return any;
}

void VariableStore::compact() {
  size_t at = kFirstRecordAt;
  for (const Variable& variable : variables_) {
    const Bytes record = encode(variable);
    HF_ASSERT(record.size() <= layout_.region_end - at);  // they were all there before
    std::ranges::copy(record, image_.begin() + static_cast<std::ptrdiff_t>(at));
    at += record.size();
  }
  std::fill(image_.begin() + static_cast<std::ptrdiff_t>(at),
            image_.begin() + static_cast<std::ptrdiff_t>(layout_.region_end), kErased);
  HF_ASSERT(read_records().ok() && end_ == at);
}

size_t VariableStore::bytes_used() const { return end_ - kFirstRecordAt; }
size_t VariableStore::bytes_free() const { return layout_.region_end - end_; }

bool shim_keeps(std::string_view name, uint32_t attributes) {
  if (name == "SbatLevel") {
    return attributes == attribute::kBootOnly ||
           attributes == (attribute::kBootOnly | attribute::kTimeAuthenticated);
  }
  return (attributes & attribute::kBootOnly) != 0 && (attributes & attribute::kRuntime) == 0;
}

SecureBootVariables secure_boot_variables(const VariableStore& store) {
  SecureBootVariables out;
  const auto data = [&](const Guid& vendor, std::string_view name) -> std::optional<Bytes> {
    const Variable* variable = store.find(vendor, name);
    if (variable == nullptr) return std::nullopt;
    if (vendor == guids::kShimLock && !shim_keeps(name, variable->attributes)) {
      out.ignored.emplace_back(name);
      return std::nullopt;
    }
    return variable->data;
  };
  // A state counts if it is one byte; any but 0 is "on".
  const auto state = [&](std::string_view name) {
    const std::optional<Bytes> value = data(guids::kShimLock, name);
    return value && value->size() == 1 && value->front() != std::byte{0};
  };
  out.pk = data(guids::kGlobalVariable, "PK");
  out.kek = data(guids::kGlobalVariable, "KEK");
  out.db = data(guids::kImageSecurity, "db");
  out.dbx = data(guids::kImageSecurity, "dbx");
  out.mok = data(guids::kShimLock, "MokList");
  out.mokx = data(guids::kShimLock, "MokListX");
  out.sbat_level = data(guids::kShimLock, "SbatLevel");
  const auto enable = data(guids::kSecureBootEnable, "SecureBootEnable");
  out.enabled = out.pk.has_value() && !out.pk->empty() &&
                (!enable || (!enable->empty() && enable->front() == std::byte{1}));
  out.shim_validation = !state("MokSBState");
  out.mok_ignores_db = state("MokDBState");
  return out;
}

}  // namespace hf::secure_boot
