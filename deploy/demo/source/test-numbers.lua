-- Numbers: integers that wrap, floats, and a sieve to keep the emulator busy for a moment.
assert(math.maxinteger + 1 == math.mininteger and 7 // -2 == -4 and 7 % -2 == -1)
assert(math.abs(math.sin(math.pi / 6) - 0.5) < 1e-15 and 2 ^ 0.5 == math.sqrt(2))
local composite, primes = {}, 0
for number = 2, 20000 do
  if not composite[number] then
    primes = primes + 1
    for multiple = number * number, 20000, number do composite[multiple] = true end
  end
end
assert(primes == 2262)
print("primes below 20000", primes)
print("passed")
