// Ring: a queue that grows when it must and never gives memory back, so that a steady state
// allocates nothing (std::deque allocates a block every few pushes).
#pragma once

#include <bit>
#include <vector>

#include "base/assert.h"

namespace hf::journal {

template <typename T>
class Ring {
 public:
  explicit Ring(size_t capacity = 64) : items_(std::bit_ceil(capacity)) {}
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  T& operator[](size_t i) {
    HF_ASSERT(i < size_);
    return items_[(head_ + i) & (items_.size() - 1)];
  }
  const T& operator[](size_t i) const {
    HF_ASSERT(i < size_);
    return items_[(head_ + i) & (items_.size() - 1)];
  }
  T& front() { return (*this)[0]; }
  const T& front() const { return (*this)[0]; }
  T& back() { return (*this)[size_ - 1]; }
  const T& back() const { return (*this)[size_ - 1]; }
  void push_back(T item) {
    if (size_ == items_.size()) grow();
    items_[(head_ + size_) & (items_.size() - 1)] = std::move(item);
    ++size_;
  }
  T pop_front() {
    HF_ASSERT(size_ > 0);
    T item = std::move(items_[head_]);
    head_ = (head_ + 1) & (items_.size() - 1);
    --size_;
    return item;
  }

 private:
  void grow() {
    std::vector<T> larger(items_.size() * 2);
    for (size_t i = 0; i < size_; ++i) larger[i] = std::move((*this)[i]);
    items_ = std::move(larger);
    head_ = 0;
  }
  std::vector<T> items_;  // a power of two
  size_t head_ = 0;
  size_t size_ = 0;
};

}  // namespace hf::journal
