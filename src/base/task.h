// Task: a coroutine that waits for storage, and for other tasks, on one thread.
//
// Lazy: it runs from start(), or when another task awaits it. Whoever holds it destroys it, at any
// place where it waits; what it waits for must not complete afterwards (a StorageWait that is in
// flight must have come back, or never come: a Storage that completes nothing more).
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "base/storage.h"

namespace hf {

template <typename T>
class [[nodiscard]] Task {
 public:
  struct promise_type {
    Task get_return_object() { return Task(Handle::from_promise(*this)); }
    std::suspend_always initial_suspend() noexcept { return {}; }
    auto final_suspend() noexcept {
      struct Back {
        bool await_ready() noexcept { return false; }
        std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> from) noexcept {
          const std::coroutine_handle<> next = from.promise().waiter;
          return next ? next : std::noop_coroutine();
        }
        void await_resume() noexcept {}
      };
      return Back{};
    }
    template <typename Value>
    void return_value(Value&& result) {
      value.emplace(std::forward<Value>(result));
    }
    void unhandled_exception() { std::terminate(); }

    std::optional<T> value;
    std::coroutine_handle<> waiter;
  };

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  void start() { handle_.resume(); }  // once
  bool done() const { return handle_.done(); }
  T take() { return std::move(*handle_.promise().value); }  // once done()

  bool await_ready() const { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiter) {
    handle_.promise().waiter = waiter;
    return handle_;
  }
  T await_resume() { return take(); }

 private:
  using Handle = std::coroutine_handle<promise_type>;
  explicit Task(Handle handle) : handle_(handle) {}
  Handle handle_;
};

// `co_await StorageWait([&](Completion& done) { storage.sync(file, done); })`
template <typename Issue>
class StorageWait final : private Completion {
 public:
  explicit StorageWait(Issue issue) : issue_(std::move(issue)) {}
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    waiter_ = waiter;
    issue_(static_cast<Completion&>(*this));
  }
  Status await_resume() { return std::move(status_); }

 private:
  void on_complete(Status status) override {
    status_ = std::move(status);
    waiter_.resume();
  }
  Issue issue_;
  std::coroutine_handle<> waiter_;
  Status status_;
};

}  // namespace hf

// As TRY, in a Task.
#define CO_TRY(expression) HF_CO_TRY_WITH(HF_TRY_NAME(hf_try_, __COUNTER__), expression, )
#define CO_TRY_CONTEXT(expression, where) \
  HF_CO_TRY_WITH(HF_TRY_NAME(hf_try_, __COUNTER__), expression, .context(where))
#define HF_CO_TRY_WITH(result, expression, on_error)                \
  ({                                                                \
    auto&& result = (expression);                                   \
    if (!result.ok()) co_return std::move(result).error() on_error; \
    std::forward<decltype(result)>(result).value();                 \
  })
