// Result<T>: a value or an Error; never ignored by accident. TRY unwraps or returns the error.
#pragma once

#include <expected>
#include <utility>

#include "base/assert.h"
#include "base/error.h"

namespace hf {

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : inner_(std::move(value)) {}  // NOLINT(google-explicit-constructor)
  Result(Error error)
      : inner_(std::unexpected(std::move(error))) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return inner_.has_value(); }
  explicit operator bool() const { return ok(); }
  T& value() & {
    HF_ASSERT(ok());
    return *inner_;
  }
  const T& value() const& {
    HF_ASSERT(ok());
    return *inner_;
  }
  T&& value() && {
    HF_ASSERT(ok());
    return *std::move(inner_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  Error& error() & {
    HF_ASSERT(!ok());
    return inner_.error();
  }
  const Error& error() const& {
    HF_ASSERT(!ok());
    return inner_.error();
  }
  Error&& error() && {
    HF_ASSERT(!ok());
    return std::move(inner_.error());
  }

 private:
  std::expected<T, Error> inner_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error)
      : inner_(std::unexpected(std::move(error))) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return inner_.has_value(); }
  explicit operator bool() const { return ok(); }
  void value() const { HF_ASSERT(ok()); }
  Error& error() & {
    HF_ASSERT(!ok());
    return inner_.error();
  }
  const Error& error() const& {
    HF_ASSERT(!ok());
    return inner_.error();
  }
  Error&& error() && {
    HF_ASSERT(!ok());
    return std::move(inner_.error());
  }

 private:
  std::expected<void, Error> inner_;
};

using Status = Result<void>;

}  // namespace hf

// `auto x = TRY(f());` and `TRY(g());` in a function that returns a Result. Not in coroutines.
// TRY_CONTEXT also names where it happened. They nest: each use has a variable of its own.
#define HF_TRY_JOIN(a, b) a##b
#define HF_TRY_NAME(a, b) HF_TRY_JOIN(a, b)
#define HF_TRY_WITH(result, expression, on_error)                \
  ({                                                             \
    auto&& result = (expression);                                \
    if (!result.ok()) return std::move(result).error() on_error; \
    std::forward<decltype(result)>(result).value();              \
  })
#define TRY(expression) HF_TRY_WITH(HF_TRY_NAME(hf_try_, __COUNTER__), expression, )
#define TRY_CONTEXT(expression, where) \
  HF_TRY_WITH(HF_TRY_NAME(hf_try_, __COUNTER__), expression, .context(where))
