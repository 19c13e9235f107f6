#include "keeper/throw_away_storage.h"

#include <algorithm>
#include <utility>

namespace hf::keeper {

Result<ThrowAwayStorage::ContentPtr> ThrowAwayStorage::find(std::string_view name) {
  if (const auto known = names_.find(name); known != names_.end()) return known->second;
  if (gone_.contains(name)) {
    return Error{.code = ErrorCode::kNotFound, .cause = "no file " + std::string(name)};
  }
  auto content = std::make_shared<Content>();
  content->under = TRY(under_.open(name, OpenMode::kRead));
  content->under_size = content->size = TRY(under_.size(*content->under));
  names_.emplace(name, content);
  return content;
}

Result<ThrowAwayStorage::ContentPtr> ThrowAwayStorage::make(std::string_view name) {
  const Result<ContentPtr> there = find(name);
  if (there.ok()) {
    return Error{.code = ErrorCode::kExists, .cause = "file exists: " + std::string(name)};
  }
  if (there.error().code != ErrorCode::kNotFound) return there.error();
  return names_.emplace(name, std::make_shared<Content>()).first->second;
}

FileId ThrowAwayStorage::give(ContentPtr content) {
  const FileId file(next_++);
  files_.emplace(file, std::move(content));
  return file;
}

ThrowAwayStorage::Content& ThrowAwayStorage::content(FileId file) {
  const auto found = files_.find(file);
  HF_ASSERT(found != files_.end() && found->second != nullptr);
  return *found->second;
}

Result<FileId> ThrowAwayStorage::open(std::string_view name, OpenMode mode) {
  return give(TRY(mode == OpenMode::kCreate ? make(name) : find(name)));
}

Status ThrowAwayStorage::close(FileId file) {
  files_.erase(file);
  return {};
}

Result<uint64_t> ThrowAwayStorage::size(FileId file) { return content(file).size; }

Status ThrowAwayStorage::truncate(FileId file, uint64_t size) {
  Content& of = content(file);
  of.size = size;
  of.under_size = std::min(of.under_size, size);
  of.pages.erase(of.pages.lower_bound((size + kPage - 1) / kPage), of.pages.end());
  if (const auto last = of.pages.find(size / kPage); last != of.pages.end()) {
    std::ranges::fill(MutableByteSpan(last->second).subspan(size % kPage), std::byte{0});
  }
  return {};
}

Status ThrowAwayStorage::remove(std::string_view name) {
  TRY(find(name));
  names_.erase(names_.find(name));
  gone_.emplace(name);
  return {};
}

Status ThrowAwayStorage::rename(std::string_view from, std::string_view to) {
  ContentPtr moved = TRY(find(from));
  names_.erase(names_.find(from));
  gone_.emplace(from);
  names_[std::string(to)] = std::move(moved);
  return {};
}

Result<std::vector<std::string>> ThrowAwayStorage::list() {
  std::set<std::string> all;
  for (std::string& name : TRY(under_.list())) {
    if (!gone_.contains(name)) all.insert(std::move(name));
  }
  for (const auto& [name, content] : names_) all.insert(name);
  return std::vector<std::string>(all.begin(), all.end());
}

// What is not there any more, or never was, is zero.
Status ThrowAwayStorage::read_under(const Content& content, uint64_t offset, MutableByteSpan to) {
  const uint64_t there =
      offset < content.under_size ? std::min<uint64_t>(to.size(), content.under_size - offset) : 0;
  std::ranges::fill(to.subspan(there), std::byte{0});
  if (there == 0) return {};
  return under_.read_now(*content.under, offset, to.first(there));
}

Status ThrowAwayStorage::read_now(FileId file, uint64_t offset, MutableByteSpan to) {
  const Content& of = content(file);
  if (offset > of.size || to.size() > of.size - offset) {
    return Error{.code = ErrorCode::kCorrupt, .cause = "file ends early"};
  }
  while (!to.empty()) {
    // Up to the next page that was written, or its part.
    const auto page = of.pages.lower_bound(offset / kPage);
    const uint64_t starts = page == of.pages.end() ? UINT64_MAX : page->first * kPage;
    uint64_t count = to.size();
    if (starts > offset) {
      count = std::min(count, starts - offset);
      TRY(read_under(of, offset, to.first(count)));
    } else {
      count = std::min(count, starts + kPage - offset);
      std::ranges::copy(ByteSpan(page->second).subspan(offset - starts, count), to.begin());
    }
    offset += count;
    to = to.subspan(count);
  }
  return {};
}

Status ThrowAwayStorage::write_now(FileId file, uint64_t offset, ByteSpan from) {
  Content& of = content(file);
  while (!from.empty()) {
    const uint64_t number = offset / kPage;
    auto page = of.pages.find(number);
    if (page == of.pages.end()) {
      if (kept_ + kPage > kBytesMax) {
        return Error{.code = ErrorCode::kLimit,
                     .cause = "more would be written than is kept of a look"};
      }
      Bytes before(kPage);
      TRY(read_under(of, number * kPage, before));
      page = of.pages.emplace(number, std::move(before)).first;
      kept_ += kPage;
    }
    const uint64_t at = offset % kPage;
    const uint64_t count = std::min<uint64_t>(from.size(), kPage - at);
    std::ranges::copy(from.first(count), page->second.begin() + static_cast<std::ptrdiff_t>(at));
    offset += count;
    from = from.subspan(count);
    of.size = std::max(of.size, offset);
  }
  return {};
}

void ThrowAwayStorage::complete(Completion& done, Status status) {
  later_([&done, status = std::move(status)] { done.on_complete(status); });
}

void ThrowAwayStorage::read(FileId file, uint64_t offset, MutableByteSpan to, Completion& done) {
  complete(done, read_now(file, offset, to));
}

void ThrowAwayStorage::write(FileId file, uint64_t offset, ByteSpan from, Completion& done) {
  complete(done, write_now(file, offset, from));
}

void ThrowAwayStorage::sync(FileId, Completion& done) { complete(done, {}); }

FileId ThrowAwayStorage::create(std::string_view name, Completion& done) {
  Result<ContentPtr> made = make(name);
  complete(done, made.ok() ? Status() : Status(made.error()));
  return give(made.ok() ? *std::move(made) : std::make_shared<Content>());
}

void ThrowAwayStorage::unlink(std::string_view name, Completion& done) {
  complete(done, remove(name));
}

void ThrowAwayStorage::move(std::string_view from, std::string_view to, Completion& done) {
  complete(done, rename(from, to));
}

void ThrowAwayStorage::sync_names(Completion& done) { complete(done, {}); }

}  // namespace hf::keeper
